#include "store/sealed/seal.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/resource.h>

enum { KEYS_MAX = 256, LINE_MAX_BYTES = 128 };

struct seal_keys {
    size_t count;
    struct seal_key keys[KEYS_MAX]; /* oldest first */
};

/* Not even to a program (core_pattern's "|…"): to the kernel a limit of 1 says so, 0 does not. */
static void leave_no_core(void)
{
    const struct rlimit none = {.rlim_cur = 1, .rlim_max = 1};
    struct rlimit old;

    if (getrlimit(RLIMIT_CORE, &old) == 0 && old.rlim_max >= 1)
        (void)setrlimit(RLIMIT_CORE, &none);
}

static bool read_line(struct seal_keys *keys, const char *line, struct error *err)
{
    struct buffer key = BUFFER_MAX(SEAL_KEY_LEN + 3);
    struct error why = {0};
    uint8_t digest[SHA256_DIGEST_LENGTH];
    bool ok = string_base64_decode(line, &key, &why) && key.len == SEAL_KEY_LEN;

    if (ok && keys->count < KEYS_MAX) {
        struct seal_key *to = &keys->keys[keys->count++];
        memcpy(to->bytes, key.data, SEAL_KEY_LEN);
        SHA256(to->bytes, SEAL_KEY_LEN, digest);
        memcpy(to->id, digest, SEAL_KEY_ID_LEN);
    } else if (ok) {
        ok = error_set(err, ERROR_CONFIG, "more than %d keys", KEYS_MAX);
    } else {
        error_set(err, ERROR_CONFIG, "line %zu is not 32 bytes in base64 (openssl rand -base64 32)",
                  keys->count + 1);
    }
    if (key.data != NULL)
        OPENSSL_cleanse(key.data, key.cap);
    buffer_done(&key);
    return ok;
}

static bool read_lines(struct seal_keys *keys, FILE *file, struct error *err)
{
    char line[LINE_MAX_BYTES];
    bool ok = true;

    while (ok && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\r\n")] = '\0';
        ok = read_line(keys, line, err);
    }
    OPENSSL_cleanse(line, sizeof(line));
    if (ok && ferror(file))
        return error_set(err, ERROR_CONFIG, "%s", strerror(errno));
    return ok && (keys->count > 0 || error_set(err, ERROR_CONFIG, "there is no key in it"));
}

struct seal_keys *seal_keys_load(const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        error_set(err, ERROR_CONFIG, "%s: %s", path, strerror(errno));
        return NULL;
    }
    leave_no_core();
    struct seal_keys *ret = xcalloc(1, sizeof(*ret));
    setvbuf(file, NULL, _IONBF, 0); /* no copy of the keys stays in its buffer */
    bool ok = read_lines(ret, file, err);
    fclose(file);
    if (ok)
        return ret;
    error_wrap(err, "%s", path);
    seal_keys_free(ret);
    return NULL;
}

void seal_keys_free(struct seal_keys *keys)
{
    if (keys != NULL)
        OPENSSL_cleanse(keys, sizeof(*keys));
    free(keys);
}

const struct seal_key *seal_keys_find(const struct seal_keys *keys, const uint8_t *id)
{
    for (size_t i = 0; i < keys->count; i++)
        if (memcmp(keys->keys[i].id, id, SEAL_KEY_ID_LEN) == 0)
            return &keys->keys[i];
    return NULL;
}

const struct seal_key *seal_keys_newest(const struct seal_keys *keys)
{
    return &keys->keys[keys->count - 1];
}
