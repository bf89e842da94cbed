/* What Google may answer: the first byte says whom we asked (the metadata server for a token, the
 * issuer for its keys, Pub/Sub), the rest is replies (replies.h). */
#include "auth/jwks_cache.h"
#include "client/google_token.h"
#include "events/pubsub/pubsub_call.h"
#include "replies.h"

#include <openssl/evp.h>

enum { NO_PAUSE_MS = 2 };

static struct http_client *client;

static void check_token(int64_t deadline_ms)
{
    const struct google_token_options options = {
        .client = client, .scope = "s", .metadata_host = "127.0.0.1:9", .credentials_file = ""};
    struct error err = {0};
    char text[BEARER_MAX];
    struct bearer *t = google_token_new(&options, &err);

    FUZZ_CHECK(t != NULL);
    if (t->get(t, deadline_ms, text, &err)) {
        FUZZ_CHECK(*text != '\0' && strlen(text) < BEARER_MAX);
        FUZZ_CHECK(text[strcspn(text, " \r\n\t")] == '\0');
        t->expired(t, text);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE, ERROR_DEADLINE);
    }
    google_token_free(t);
}

static int64_t now_ms;

static int64_t clock_now(void)
{
    return now_ms;
}

/* Keys are asked for again after their max-age (a minute to a day), and not before. */
static void check_keys(int64_t deadline_ms)
{
    const struct jwks_options options = {
        .client = client, .url = "http://127.0.0.1:9/keys", .now_ms = clock_now};
    struct error err = {0};
    struct jwks *jwks = jwks_new(&options);

    now_ms = 1000000;
    struct evp_pkey_st *key = jwks_find(jwks, "k", deadline_ms, &err);
    if (key != NULL) {
        size_t calls = replies.calls;
        EVP_PKEY_free(key);
        now_ms += 59000;
        EVP_PKEY_free(jwks_find(jwks, "k", deadline_ms, &err));
        FUZZ_CHECK(replies.calls == calls);
        now_ms += 24 * 3600 * 1000LL;
        EVP_PKEY_free(jwks_find(jwks, "k", deadline_ms, &err));
        FUZZ_CHECK(replies.calls == calls + 1);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED, ERROR_UNAVAILABLE, ERROR_DEADLINE);
    }
    jwks_free(jwks);
}

static void check_publish(int64_t deadline_ms)
{
    static struct pubsub_call call;
    const struct pubsub_options options = {
        .endpoint = "http://127.0.0.1:9", .topic = "projects/p/topics/t", .client = client};
    struct error err = {0};
    CLEANUP_FREE char *url = pubsub_url(&options, &err);

    FUZZ_CHECK(url != NULL);
    call =
        (struct pubsub_call){.body = bytes_from_str("{}"), .count = 2, .deadline_ms = deadline_ms};
    enum pubsub_verdict verdict = pubsub_call(&options, url, &call, &err);
    if (verdict == PUBSUB_DONE) {
        FUZZ_CHECK(replies.status == 200);
        for (size_t i = 0; i < call.count; i++)
            FUZZ_CHECK(*call.ids[i] != '\0' && memchr(call.ids[i], '\0', MESSAGE_ID_MAX) != NULL);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE, ERROR_DEADLINE, ERROR_OVERLOADED);
    }
}

static void free_client(void)
{
    http_client_free(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t whom = fuzz_byte(&in);
    int64_t deadline_ms = clock_monotonic_ms() + NO_PAUSE_MS;

    if (client == NULL) {
        client = http_client_new(NULL, NULL);
        atexit(free_client);
    }
    replies_begin(in);
    if (whom % 3 == 0)
        check_token(deadline_ms);
    else if (whom % 3 == 1)
        check_keys(deadline_ms);
    else
        check_publish(deadline_ms);
    return 0;
}
