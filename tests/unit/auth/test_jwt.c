/* Tokens: their form, their signature, their claims. Keys are made here. */
#include "../test_cases.h"
#include "auth/jwks.h"
#include "auth/oidc.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "test_jwt_builders.h"

#include <time.h>

static EVP_PKEY *key, *stranger;

static int make_keys(void **state)
{
    key = EVP_RSA_gen(2048);
    stranger = EVP_RSA_gen(2048);
    return key == NULL || stranger == NULL;
}

static int free_keys(void **state)
{
    EVP_PKEY_free(key);
    EVP_PKEY_free(stranger);
    return 0;
}

TEST(test_base64url)
{
    static const struct {
        const char *text, *data; /* NULL: refused */
    } cases[] = {
        {"", ""},           {"Zg", "f"},        {"Zm8", "fo"},
        {"Zm9v", "foo"},    {"Zm9vYg", "foob"}, {"-_-_", "\xfb\xff\xbf"},
        {"Zh", NULL},       {"Zm9", NULL},      {"Z", NULL},
        {"Zm9vZ", NULL},    {"Zg==", NULL},     {"Zm8=", NULL},
        {"+/+/", NULL},     {"Zm 9v", NULL},    {"Zm9v\n", NULL},
        {"Zm9v\xff", NULL},
    };
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
        bool ok = base64url_decode(bytes_from_str(cases[i].text), &out, &err);
        assert_int_equal(ok, cases[i].data != NULL);
        if (ok)
            assert_true(bytes_equal(buffer_view(&out), bytes_from_str(cases[i].data)));
    }
    CLEANUP(buffer_done) struct buffer small = BUFFER_MAX(2);
    assert_false(base64url_decode(bytes_from_str("Zm9v"), &small, &err));
}

static enum error_code verify(const char *header, const char *claims, EVP_PKEY *signer)
{
    CLEANUP_FREE char *token = make_token(header, claims, signer);
    CLEANUP(jwt_done) struct jwt jwt = {0};
    struct error err = {0};

    bool ok = jwt_read(token, JWT_RS256, &jwt, &err) && jwt_verify(&jwt, key, &err);
    json_t *got = ok ? jwt_claims(&jwt, &err) : NULL;
    assert_int_equal(got != NULL, err.code == ERROR_NONE);
    json_decref(got);
    return err.code;
}

TEST(test_headers)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "\"RS256\"",
        "{\"alg\":\"none\",\"kid\":\"k\"}",
        "{\"alg\":\"HS256\",\"kid\":\"k\"}",
        "{\"alg\":\"RS512\",\"kid\":\"k\"}",
        "{\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"kid\":\"\"}",
        "{\"alg\":\"RS256\",\"kid\":null}",
        "{\"alg\":\"RS256\",\"kid\":\"k\",\"kid\":\"k\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"RS256\",\"kid\":\"k\",\"typ\":\"x\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k\\u0000\"}",
        "{\"alg\":\"RS256\",\"kid\":\"k\"} x",
        "{\"alg\":\"RS256\",\"kid\":\"k\",\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]"
        "]]]]]]]]"
        "]]]]]]]]]}",
    };

    assert_int_equal(verify(HEADER, "{}", key), ERROR_NONE);
    assert_int_equal(verify("{\"alg\":\"RS256\",\"kid\":\"k\"}", "{}", key), ERROR_NONE);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(verify(bad[i], "{}", key), ERROR_UNAUTHORIZED);
    assert_int_equal(verify(HEADER, "{}", stranger), ERROR_UNAUTHORIZED);
    assert_int_equal(verify(HEADER, "[]", key), ERROR_UNAUTHORIZED);
    assert_int_equal(verify(HEADER, "{\"a\":1,\"a\":1}", key), ERROR_UNAUTHORIZED);
    assert_int_equal(verify(HEADER, "{\"a\":99999999999999999999}", key), ERROR_UNAUTHORIZED);
}

/* Any one character of a good token changed, left out or doubled: refused. */
TEST(test_mutations)
{
    CLEANUP_FREE char *token = make_token(HEADER, "{\"a\":\"bcdefgh\"}", key);
    size_t len = strlen(token);

    for (size_t i = 0; i < len; i++) {
        for (int kind = 0; kind < 3; kind++) {
            CLEANUP_FREE char *changed = calloc(1, len + 2);
            CLEANUP(jwt_done) struct jwt jwt = {0};
            struct error err = {0};
            memcpy(changed, token, i);
            if (kind == 0) {
                changed[i] = token[i] == 'A' ? 'B' : 'A';
                memcpy(changed + i + 1, token + i + 1, len - i);
            } else if (kind == 1) {
                memcpy(changed + i, token + i + 1, len - i);
            } else {
                changed[i] = token[i];
                memcpy(changed + i + 1, token + i, len - i);
            }
            assert_fails(err, ERROR_UNAUTHORIZED,
                         jwt_read(changed, JWT_RS256, &jwt, &err) && jwt_verify(&jwt, key, &err));
        }
    }
}

TEST(test_length)
{
    CLEANUP_FREE char *text = malloc(JWT_MAX + 2);
    struct error err = {0};

    memset(text, 'A', JWT_MAX + 1);
    text[JWT_MAX + 1] = '\0';
    CLEANUP(jwt_done) struct jwt jwt = {0};
    assert_false(jwt_read(text, JWT_RS256, &jwt, &err));
    assert_non_null(strstr(err.message, "longer"));
}

#define NOW 1800000000
#define GOOD_TIMES "\"iat\":1800000000,\"exp\":1800003600"
#define ACCOUNT "\"email\":\"a@b\",\"email_verified\":true"
#define ISSUER "\"iss\":\"https://accounts.google.com\""

TEST(test_claims)
{
    static const struct {
        const char *claims;
        enum error_code expected;
    } cases[] = {
        {ISSUER ",\"aud\":\"x\"," ACCOUNT "," GOOD_TIMES, ERROR_NONE},
        {"\"iss\":\"accounts.google.com\",\"aud\":[\"y\",\"x\"]," ACCOUNT "," GOOD_TIMES,
         ERROR_NONE},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"iat\":1800000060,\"exp\":1799999941", ERROR_NONE},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"iat\":1,\"exp\":1799999940", ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"iat\":1800000061,\"exp\":1800003600",
         ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"nbf\":1800000060," GOOD_TIMES, ERROR_NONE},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"nbf\":1800000061," GOOD_TIMES, ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"iat\":1,\"exp\":9223372036854775807",
         ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":\"x\"," ACCOUNT ",\"iat\":1,\"exp\":1.8e9", ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":[]," ACCOUNT "," GOOD_TIMES, ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":[\"x\",1]," ACCOUNT "," GOOD_TIMES, ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":\"\"," ACCOUNT "," GOOD_TIMES, ERROR_UNAUTHORIZED},
        {"\"iss\":\"\",\"aud\":\"x\"," ACCOUNT "," GOOD_TIMES, ERROR_UNAUTHORIZED},
        {ISSUER ",\"aud\":\"x\",\"email\":\"c@d\",\"email_verified\":true," GOOD_TIMES, ERROR_NONE},
        {ISSUER ",\"aud\":\"x\",\"email\":\"\",\"email_verified\":true," GOOD_TIMES,
         ERROR_FORBIDDEN},
        {ISSUER ",\"aud\":\"x\",\"email\":\"a@b,c@d\",\"email_verified\":true," GOOD_TIMES,
         ERROR_FORBIDDEN},
        {ISSUER ",\"aud\":\"x\",\"email\":\"a@b\",\"email_verified\":\"true\"," GOOD_TIMES,
         ERROR_FORBIDDEN},
        {ISSUER ",\"aud\":\"x\",\"email\":\"a@b\"," GOOD_TIMES, ERROR_FORBIDDEN},
    };
    const struct oidc_guests guests = {.audience = "x", .emails = "a@b, c@d,"};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *text = xasprintf("{%s}", cases[i].claims);
        json_t *claims = json_loads(text, 0, NULL);
        struct error err = {0};
        assert_non_null(claims);
        bool ok = oidc_check_claims(claims, OIDC_GOOGLE_ISSUER, &guests, NOW, &err);
        if (err.code != cases[i].expected || ok != (err.code == ERROR_NONE))
            fail_msg("%s: %s", text, err.message);
        json_decref(claims);
    }
}

static size_t usable(const char *json)
{
    struct jwk_set set;
    struct error err = {0};

    bool ok = jwk_set_read(bytes_from_str(json), &set, &err);
    size_t count = set.count;
    assert_int_equal(ok, count > 0);
    if (!ok)
        assert_int_equal(err.code, ERROR_UNAVAILABLE);
    jwk_set_done(&set);
    return count;
}

TEST(test_key_sets)
{
    CLEANUP_FREE char *good = make_jwk("k", key, "");
    CLEANUP_FREE char *other = make_jwk("l", stranger, "");
    CLEANUP_FREE char *same = make_jwk("k", stranger, "");
    CLEANUP_FREE char *encryption = make_jwk("k", key, ",\"use\":\"enc\"");
    CLEANUP_FREE char *ps = make_jwk("k", key, ",\"alg\":\"PS256\"");
    CLEANUP_FREE char *wrap = make_jwk("k", key, ",\"key_ops\":[\"wrapKey\"]");
    CLEANUP_FREE char *check = make_jwk("k", key, ",\"key_ops\":[\"verify\"],\"alg\":\"RS256\"");
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    CLEANUP_FREE char *weak_jwk = make_jwk("k", weak, "");
    const struct {
        char *json;
        size_t count;
    } cases[] = {
        {xasprintf("{\"keys\":[%s,%s]}", good, other), 2},
        {xasprintf("{\"keys\":[%s,%s]}", good, same), 0},
        {xasprintf("{\"keys\":[%s,%s]}", encryption, same), 1},
        {xasprintf("{\"keys\":[%s,%s,1,null,{},[]]}", ps, other), 1},
        {xasprintf("{\"keys\":[%s]}", wrap), 0},
        {xasprintf("{\"keys\":[%s],\"more\":1}", check), 1},
        {xasprintf("{\"keys\":[%s]}", weak_jwk), 0},
        {xasprintf("{\"keys\":[%s]} x", good), 0},
        {xasprintf("[%s]", good), 0},
        {xasprintf("%s", good), 0},
        {xasprintf("{\"keys\":[{\"kty\":\"oct\",\"kid\":\"k\",\"k\":\"AAAA\"}]}"), 0},
    };

    EVP_PKEY_free(weak);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(usable(cases[i].json), cases[i].count);
        free(cases[i].json);
    }
}

/* RFC 7515, A.1 */
TEST(test_shared_secret)
{
    static const char token[] =
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
        "cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    static const char encoded[] =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS"
        "4hcgUuTwjAzZr1Z9CAow";
    CLEANUP(buffer_done) struct buffer secret = BUFFER_MAX(128), made = BUFFER_MAX(JWT_MAX);
    CLEANUP(jwt_done) struct jwt jwt = {0}, ours = {0};
    struct error err = {0};

    assert_true(base64url_decode(bytes_from_str(encoded), &secret, &err));
    const char *text = buffer_cstr(&secret, &err);
    assert_true(jwt_read(token, JWT_HS256, &jwt, &err) && jwt_verify_secret(&jwt, text, &err));
    assert_false(jwt_verify_secret(&jwt, "another", &err));
    assert_false(jwt_verify_secret(&jwt, "", &err));
    assert_false(jwt_verify(&jwt, key, &err));

    assert_true(jwt_sign_secret(json_pack("{s:s}", "sub", "joe"), text, &made, &err));
    assert_true(jwt_read(buffer_cstr(&made, &err), JWT_HS256, &ours, &err));
    assert_true(jwt_verify_secret(&ours, text, &err));
    ours.signature.data[0] ^= 1;
    assert_false(jwt_verify_secret(&ours, text, &err));
    ours.signature.len = 0;
    assert_false(jwt_verify_secret(&ours, text, &err));
}

/* Of this thread: others do not count. */
static int64_t processor_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The budget is 1 ms; ThreadSanitizer and others are given more. */
TEST(test_speed)
{
    enum { TIMES = 200 };
    CLEANUP_FREE char *token = make_token(HEADER, "{}", key);
    int64_t best = INT64_MAX;

    for (int round = 0; round < 5; round++) {
        int64_t begin = processor_ms();
        for (int i = 0; i < TIMES; i++) {
            CLEANUP(jwt_done) struct jwt jwt = {0};
            struct error err = {0};
            assert_true(jwt_read(token, JWT_RS256, &jwt, &err) && jwt_verify(&jwt, key, &err));
        }
        int64_t took = processor_ms() - begin;
        best = took < best ? took : best;
    }
    print_message("one verification: %.3f ms\n", (double)best / TIMES);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    assert_true(best < 20 * TIMES);
#else
    assert_true(best < TIMES);
#endif
}

TEST_MAIN(make_keys, free_keys)
