#include "users/token_keys.h"

#include "auth/jwt.h"
#include "base/clock.h"
#include "base/directory.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

enum {
    SEED_LEN = 32,
    KID_LEN = 16,
    FILE_MAX = 4096,
    LEEWAY_S = 60, /* of other instances' clocks */
};

static const char issuer[] = "darkroom";

struct key {
    char kid[KID_LEN + 1];
    EVP_PKEY *pair;
};

struct key_set {
    struct key keys[TOKEN_KEYS_MAX];
    size_t count;
};

struct token_keys {
    char *path;
    pthread_mutex_t lock; /* all that follows */
    struct stat read;     /* the file, when it was */
    struct key_set set;
};

/* ---- the file ---- */

static void key_set_done(struct key_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        EVP_PKEY_free(set->keys[i].pair);
    set->count = 0;
}

static bool add_key(struct key_set *set, const uint8_t seed[SEED_LEN], struct error *err)
{
    uint8_t public[SEED_LEN];
    size_t len = sizeof(public);
    char hex[SHA256_HEX_LEN + 1];
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SEED_LEN);
    const struct bytes part = bytes_of(public, sizeof(public));

    if (pair == NULL || EVP_PKEY_get_raw_public_key(pair, public, &len) != 1 ||
        !string_sha256_hex(&part, 1, hex, err)) {
        EVP_PKEY_free(pair);
        return error_set(err, ERROR_INTERNAL, "OpenSSL makes no Ed25519 key");
    }
    struct key *key = &set->keys[set->count++];
    key->pair = pair;
    snprintf(key->kid, sizeof(key->kid), "%.*s", KID_LEN, hex);
    return true;
}

/* Never quotes the file. */
static bool parse(char *text, struct key_set *ret, struct error *err)
{
    char *rest = NULL;
    int number = 0;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        CLEANUP(buffer_done)
        struct buffer seed = BUFFER_MAX(2 * SEED_LEN); /* for more than there should be */
        struct error why;

        number++;
        line[strcspn(line, "\r")] = '\0';
        if (ret->count == TOKEN_KEYS_MAX)
            return error_set(err, ERROR_CONFIG, "more than %d keys: remove the first lines",
                             TOKEN_KEYS_MAX);
        if (!string_base64_decode(line, &seed, &why) || seed.len != SEED_LEN)
            return error_set(err, ERROR_CONFIG, "line %d is not 32 bytes in base64", number);
        bool ok = add_key(ret, seed.data, err);
        explicit_bzero(seed.data, seed.len);
        if (!ok)
            return false;
    }
    return ret->count > 0 || error_set(err, ERROR_CONFIG, "there is no key in it");
}

static bool read_text(const char *path, char text[FILE_MAX + 1], struct stat *st, struct error *err)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 && fstat(fd, st) == 0 ? read(fd, text, FILE_MAX) : -1;

    if (n < 0)
        return error_set(err, ERROR_UNAVAILABLE, "cannot read %s: %s", path, strerror(errno));
    text[n] = '\0';
    return true;
}

static bool load(const char *path, struct key_set *ret, struct stat *st, struct error *err)
{
    char text[FILE_MAX + 1];

    bool ok =
        read_text(path, text, st, err) && (parse(text, ret, err) || error_wrap(err, "%s", path));
    explicit_bzero(text, sizeof(text));
    if (!ok)
        key_set_done(ret);
    return ok;
}

/* A line with a new key, at the end of the text. */
static bool append_key(char text[FILE_MAX + 1], struct error *err)
{
    CLEANUP(buffer_done) struct buffer line = BUFFER_MAX(64);
    uint8_t seed[SEED_LEN];
    size_t len = strlen(text);

    if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return error_set(err, ERROR_UNAVAILABLE, "the system has no randomness");
    bool ok = string_base64_encode(bytes_of(seed, sizeof(seed)), &line, err);
    if (ok && len > 0 && text[len - 1] != '\n' && len < FILE_MAX)
        text[len++] = '\n';
    ok = ok && (len + line.len + 1 <= FILE_MAX ||
                error_set(err, ERROR_CONFIG, "there is no room for another key"));
    if (ok)
        snprintf(text + len, FILE_MAX + 1 - len, "%.*s\n", (int)line.len, (const char *)line.data);
    explicit_bzero(seed, sizeof(seed));
    return ok;
}

/* Whole or not at all. `replace`: else what is there stays, and that is no failure. Several may
 * write at a time, in one process or in containers where each is process 1: no name is shared. */
static bool write_text(const char *path, const char *text, bool replace, struct error *err)
{
    CLEANUP_FREE char *partial = xasprintf("%s.XXXXXX", path);
    CLEANUP_FREE char *folder = directory_of(path);
    size_t len = strlen(text);

    if (!directory_make(folder))
        return error_set(err, ERROR_UNAVAILABLE, "cannot make %s: %s", folder, strerror(errno));
    CLEANUP_CLOSE int fd = mkostemp(partial, O_CLOEXEC); /* 0600 */
    bool ok =
        fd >= 0 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 &&
        (replace ? rename(partial, path) == 0 : link(partial, path) == 0 || errno == EEXIST) &&
        directory_sync(AT_FDCWD, folder);
    int why = errno;
    if (fd >= 0 && (!replace || !ok))
        unlink(partial);
    return ok || error_set(err, ERROR_UNAVAILABLE, "cannot write %s: %s", path, strerror(why));
}

static bool make_file(const char *path, struct error *err)
{
    char text[FILE_MAX + 1] = "";

    bool ok = append_key(text, err) && write_text(path, text, false, err);
    explicit_bzero(text, sizeof(text));
    return ok;
}

bool token_keys_rotate(const char *path, struct error *err)
{
    char text[FILE_MAX + 1] = "";
    struct key_set set = {0};
    struct stat st;

    if (access(path, F_OK) != 0 && errno == ENOENT)
        return make_file(path, err);
    bool ok = load(path, &set, &st, err) && read_text(path, text, &st, err);
    char *from = text;
    if (ok && set.count == TOKEN_KEYS_MAX) {
        from += strspn(from, "\n");
        from += strcspn(from, "\n");
        memmove(text, from, strlen(from) + 1);
    }
    ok = ok && append_key(text, err) && write_text(path, text, true, err);
    explicit_bzero(text, sizeof(text));
    key_set_done(&set);
    return ok;
}

struct token_keys *token_keys_open(const char *path, struct error *err)
{
    struct token_keys *k = xcalloc(1, sizeof(*k));

    k->path = xstrdup(path);
    pthread_mutex_init(&k->lock, NULL);
    if ((access(path, F_OK) == 0 || make_file(path, err)) && load(path, &k->set, &k->read, err))
        return k;
    token_keys_free(k);
    return NULL;
}

void token_keys_free(struct token_keys *k)
{
    if (k == NULL)
        return;
    key_set_done(&k->set);
    pthread_mutex_destroy(&k->lock);
    free(k->path);
    free(k);
}

/* A file that cannot be read now changes nothing. Called locked. */
static void refresh(struct token_keys *k)
{
    struct key_set set = {0};
    struct error ignored;
    struct stat st;

    if (stat(k->path, &st) != 0 ||
        (st.st_ino == k->read.st_ino && st.st_size == k->read.st_size &&
         st.st_mtim.tv_sec == k->read.st_mtim.tv_sec &&
         st.st_mtim.tv_nsec == k->read.st_mtim.tv_nsec) ||
        !load(k->path, &set, &st, &ignored))
        return;
    key_set_done(&k->set);
    k->set = set;
    k->read = st;
}

/* A reference to the key of that id, NULL: to the newest one. NULL when there is none. */
static EVP_PKEY *find_key(struct token_keys *k, const char *kid, char found[KID_LEN + 1])
{
    EVP_PKEY *pair = NULL;

    pthread_mutex_lock(&k->lock);
    refresh(k);
    for (size_t i = k->set.count; i > 0 && pair == NULL; i--)
        if (kid == NULL || strcmp(k->set.keys[i - 1].kid, kid) == 0) {
            pair = k->set.keys[i - 1].pair;
            EVP_PKEY_up_ref(pair);
            memcpy(found, k->set.keys[i - 1].kid, KID_LEN + 1);
        }
    pthread_mutex_unlock(&k->lock);
    return pair;
}

/* ---- tokens ---- */

/* Two parts of a token and the dot between them. */
static bool encode(const char *kid, const struct token_subject *subject, struct buffer *out,
                   struct error *err)
{
    CLEANUP(buffer_done) struct buffer header = BUFFER_MAX(TOKEN_MAX);
    CLEANUP(buffer_done) struct buffer claims = BUFFER_MAX(TOKEN_MAX);
    const json_int_t now_s = clock_wall_ms() / 1000;

    return json_append(json_pack("{s:s, s:s, s:s}", "alg", "EdDSA", "kid", kid, "typ", "JWT"),
                       &header, err) &&
           json_append(json_pack("{s:s, s:s, s:I, s:I, s:I}", "iss", issuer, "sub", subject->name,
                                 "gen", (json_int_t)subject->generation, "iat", now_s, "exp",
                                 now_s + TOKEN_LIFE_S),
                       &claims, err) &&
           base64url_encode(buffer_view(&header), out, err) && buffer_append(out, ".", 1, err) &&
           base64url_encode(buffer_view(&claims), out, err);
}

static bool append_signature(EVP_PKEY *key, struct buffer *text, struct error *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[64];
    size_t len = sizeof(signature);

    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestSign(ctx, signature, &len, text->data, text->len) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok) {
        ERR_clear_error();
        return error_set(err, ERROR_INTERNAL, "OpenSSL does not sign");
    }
    return buffer_append(text, ".", 1, err) &&
           base64url_encode(bytes_of(signature, len), text, err);
}

bool token_sign(struct token_keys *k, const struct token_subject *subject, char out[TOKEN_MAX],
                struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(TOKEN_MAX - 1);
    char kid[KID_LEN + 1];
    EVP_PKEY *key = find_key(k, NULL, kid);

    if (key == NULL)
        return error_set(err, ERROR_INTERNAL, "there is no key to sign with");
    bool ok = encode(kid, subject, &text, err) && append_signature(key, &text, err);
    EVP_PKEY_free(key);
    if (ok)
        snprintf(out, TOKEN_MAX, "%.*s", (int)text.len, (const char *)text.data);
    return ok;
}

static bool check_claims(const json_t *claims, struct token_subject *ret, struct error *err)
{
    const char *name = json_string_value(json_object_get(claims, "sub"));
    const json_t *generation = json_object_get(claims, "gen");
    const json_t *iat = json_object_get(claims, "iat"), *exp = json_object_get(claims, "exp");
    int64_t now_s = clock_wall_ms() / 1000;

    if (!json_is_text(json_object_get(claims, "iss"), issuer) || name == NULL || *name == '\0' ||
        strlen(name) > TOKEN_NAME_MAX || !json_is_integer(generation) || !json_is_integer(iat) ||
        !json_is_integer(exp))
        return error_set(err, ERROR_UNAUTHORIZED, "the token is none of a user");
    if (json_integer_value(exp) <= now_s)
        return error_set(err, ERROR_UNAUTHORIZED, "the token has expired");
    if (json_integer_value(iat) > now_s + LEEWAY_S)
        return error_set(err, ERROR_UNAUTHORIZED, "the token is not valid yet");
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    ret->generation = json_integer_value(generation);
    return true;
}

bool token_read(struct token_keys *k, const char *token, struct token_subject *ret,
                struct error *err)
{
    CLEANUP(jwt_done) struct jwt jwt = {0};
    char kid[KID_LEN + 1];

    if (!jwt_read(token, JWT_EDDSA, &jwt, err))
        return false;
    EVP_PKEY *key = find_key(k, jwt.kid, kid);
    if (key == NULL)
        return error_set(err, ERROR_UNAUTHORIZED, "the token's key is not known");
    json_t *claims = jwt_verify(&jwt, key, err) ? jwt_claims(&jwt, err) : NULL;
    EVP_PKEY_free(key);
    bool ok = claims != NULL && check_claims(claims, ret, err);
    json_decref(claims);
    return ok;
}
