#include "users/token_keys.h"

#include "../test_cases.h"
#include "../test_folder.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static char dir[TEST_FOLDER_MAX];
static char path[128];

static int setup(void **state)
{
    int status = test_folder_make(dir);

    snprintf(path, sizeof(path), "%s/keys/token.keys", dir);
    return status;
}

static int teardown(void **state)
{
    return test_folder_remove(dir);
}

static struct token_keys *open_keys(void)
{
    struct error err = {0};
    struct token_keys *keys = token_keys_open(path, &err);

    if (keys == NULL)
        fail_msg("%s", err.message);
    return keys;
}

static void sign(struct token_keys *keys, char token[TOKEN_MAX])
{
    const struct token_subject subject = {.name = "Alice", .generation = 7};
    struct error err = {0};

    if (!token_sign(keys, &subject, token, &err))
        fail_msg("%s", err.message);
}

static bool is_good(struct token_keys *keys, const char *token)
{
    struct token_subject subject = {0};
    struct error err = {0};

    if (!token_read(keys, token, &subject, &err)) {
        assert_int_equal(err.code, ERROR_UNAUTHORIZED);
        assert_null(strstr(err.message, "eyJ"));
        return false;
    }
    assert_string_equal(subject.name, "Alice");
    assert_int_equal(subject.generation, 7);
    return true;
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

TEST_WITH(a_missing_file_is_made_for_its_owner_alone, setup, teardown)
{
    char token[TOKEN_MAX];
    struct stat st;
    struct token_keys *keys = open_keys();

    sign(keys, token);
    assert_true(is_good(keys, token));
    token_keys_free(keys);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 45);
    keys = open_keys(); /* the same again */
    assert_true(is_good(keys, token));
    token_keys_free(keys);
    assert_int_equal(test_folder_count(dir, "keys/*"), 1);
}

/* RFC 8037, A.1 and A.2: this seed's public key. The header names it by its hash. */
TEST_WITH(keys_are_named_by_their_hash, setup, teardown)
{
    static const uint8_t public[] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7,
                                     0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
                                     0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25,
                                     0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
    const struct bytes part = bytes_of(public, sizeof(public));
    CLEANUP(buffer_done) struct buffer header = BUFFER_MAX(512);
    char token[TOKEN_MAX], hex[SHA256_HEX_LEN + 1], kid[128];
    struct error err = {0};

    token_keys_free(open_keys());
    write_file("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n");
    struct token_keys *keys = open_keys();
    sign(keys, token);
    token_keys_free(keys);
    assert_true(base64url_decode(bytes_of(token, strcspn(token, ".")), &header, &err));
    assert_true(string_sha256_hex(&part, 1, hex, &err));
    snprintf(kid, sizeof(kid), "\"kid\":\"%.16s\"", hex);
    const char *text = buffer_cstr(&header, &err);
    assert_non_null(strstr(text, kid));
    assert_non_null(strstr(text, "\"alg\":\"EdDSA\""));
}

TEST_WITH(tokens_end_after_an_hour, setup, teardown)
{
    struct token_keys *keys = open_keys();
    char token[TOKEN_MAX];

    sign(keys, token);
    clock_set_ahead((TOKEN_LIFE_S - 10) * 1000);
    assert_true(is_good(keys, token));
    clock_set_ahead(TOKEN_LIFE_S * 1000);
    assert_false(is_good(keys, token));
    sign(keys, token);
    assert_true(is_good(keys, token));
    clock_set_ahead(0); /* signed an hour from now */
    assert_false(is_good(keys, token));
    token_keys_free(keys);
}

/* Each of its characters is covered: by the signature, or by having one spelling. */
TEST_WITH(no_character_of_a_token_can_be_changed, setup, teardown)
{
    struct token_keys *keys = open_keys();
    char token[TOKEN_MAX], changed[TOKEN_MAX + 1];

    sign(keys, token);
    for (size_t i = 0; token[i] != '\0'; i++) {
        strcpy(changed, token);
        changed[i] = token[i] == 'A' ? 'B' : 'A';
        assert_false(is_good(keys, changed));
        changed[i] = '\0';
        assert_false(is_good(keys, changed));
    }
    snprintf(changed, sizeof(changed), "%sA", token);
    assert_false(is_good(keys, changed));
    assert_false(is_good(keys, ""));
    assert_false(is_good(keys, ".."));
    token_keys_free(keys);
}

static char *encode(const char *text)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(1024);
    struct error err = {0};

    assert_true(base64url_encode(bytes_from_str(text), &out, &err));
    return xstrdup(buffer_cstr(&out, &err));
}

/* What a token says of its algorithm can only get it refused. */
TEST_WITH(other_algorithms_are_refused, setup, teardown)
{
    static const char *const algorithms[] = {"none", "HS256", "RS256", "ES256", "eddsa", "Ed25519"};
    struct token_keys *keys = open_keys();
    char token[TOKEN_MAX];

    sign(keys, token);
    for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
        CLEANUP_FREE char *json = xasprintf("{\"alg\":\"%s\",\"kid\":\"k\"}", algorithms[i]);
        CLEANUP_FREE char *header = encode(json);
        CLEANUP_FREE char *forged = xasprintf("%s%s", header, strchr(token, '.'));
        assert_false(is_good(keys, forged));
    }
    token_keys_free(keys);
}

TEST_WITH(keys_rotate_under_a_running_service, setup, teardown)
{
    struct token_keys *keys = open_keys(), *other = open_keys();
    char old[TOKEN_MAX], fresh[TOKEN_MAX];
    struct error err = {0};
    struct stat st;

    sign(keys, old);
    assert_true(token_keys_rotate(path, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    sign(keys, fresh);
    assert_memory_not_equal(old, fresh, strcspn(old, ".")); /* another key's id */
    assert_true(is_good(keys, old) && is_good(keys, fresh));
    assert_true(is_good(other, fresh)); /* one that has not signed since */
    for (int i = 0; i < TOKEN_KEYS_MAX - 1; i++)
        assert_true(token_keys_rotate(path, &err));
    assert_false(is_good(keys, old)); /* its key has gone */
    sign(keys, fresh);
    assert_true(is_good(keys, fresh));
    write_file("rubbish\n"); /* changes nothing for who has read it */
    sign(keys, fresh);
    assert_true(is_good(keys, fresh));
    token_keys_free(keys);
    token_keys_free(other);
}

TEST_WITH(strange_files_are_refused, setup, teardown)
{
    static const char secret[] = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    static const char *const bad[] = {"",       "\n",
                                      "x",      "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\n",
                                      "AAAA\n", " nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n"};
    struct error err;

    token_keys_free(open_keys());
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        write_file(bad[i]);
        assert_null(token_keys_open(path, &err));
        assert_int_equal(err.code, ERROR_CONFIG);
        assert_null(strstr(err.message, secret));
        assert_fails(err, ERROR_CONFIG, token_keys_rotate(path, &err));
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_null(token_keys_open(path, &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
}

/* Several at once find no file: one key is made, and all have it. */
static pthread_barrier_t begin;

static void *open_and_sign(void *token)
{
    pthread_barrier_wait(&begin);
    struct token_keys *keys = open_keys();

    sign(keys, token);
    token_keys_free(keys);
    return NULL;
}

TEST_WITH(many_may_begin_at_a_time, setup, teardown)
{
    enum { MANY = 8, ROUNDS = 20 };
    static char tokens[MANY][TOKEN_MAX];
    pthread_t threads[MANY];
    struct error err = {0};

    pthread_barrier_init(&begin, NULL, MANY + 1);
    for (int round = 0; round < ROUNDS; round++) {
        snprintf(path, sizeof(path), "%s/%d/token.keys", dir, round);
        for (int i = 0; i < MANY; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, open_and_sign, tokens[i]), 0);
        pthread_barrier_wait(&begin);
        for (int i = 0; i < 3; i++)
            assert_true(token_keys_rotate(path, &err));
        for (int i = 0; i < MANY; i++)
            pthread_join(threads[i], NULL);
        struct token_keys *keys = open_keys();
        for (int i = 0; i < MANY; i++)
            assert_true(is_good(keys, tokens[i]));
        token_keys_free(keys);
    }
    pthread_barrier_destroy(&begin);
    assert_int_equal(test_folder_count(dir, "*/*"), ROUNDS); /* nothing half written is left */
}

TEST_MAIN(NULL, NULL)
