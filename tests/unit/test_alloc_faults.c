/* Memory runs out in what is pure: strings, requests and replies, tokens, notifications.
 * See alloc_faults.h. */
#include "alloc_faults.h"

#include "auth/jwks.h"
#include "auth/jwt.h"
#include "auth/oidc.h"
#include "auth/test_jwt_builders.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "client/google_key.h"
#include "client/google_token.h"
#include "events/notification/notification.h"
#include "events/outbox/envelope.h"
#include "http/encoding.h"
#include "http/reply.h"
#include "http/upload.h"

#include <openssl/pem.h>

static EVP_PKEY *key; /* RSA */

/* ---- base */

static bool use_buffers(void *ctx, struct error *err)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(1 << 16);

    for (int i = 0; i < 2000; i++)
        if (!buffer_append_str(&out, "0123456789", err) || !buffer_printf(&out, err, "%d", i % 10))
            return false;
    const char *text = buffer_cstr(&out, err);
    if (text == NULL)
        return false;
    assert_int_equal(strlen(text), 22000);
    return true;
}

static bool use_strings(void *ctx, struct error *err)
{
    CLEANUP(buffer_done) struct buffer base64 = BUFFER_MAX(4096);
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(4096);
    CLEANUP(buffer_done) struct buffer url = BUFFER_MAX(4096);
    CLEANUP(buffer_done) struct buffer back = BUFFER_MAX(4096);
    char hex[SHA256_HEX_LEN + 1];

    static const char text[] = "some text 1";
    if (!string_base64_encode(bytes_from_str(text), &base64, err))
        return false;
    const char *encoded = buffer_cstr(&base64, err);
    if (encoded == NULL || !string_base64_decode(encoded, &plain, err) ||
        !string_percent_encode(text, "", &url, err))
        return false;
    encoded = buffer_cstr(&url, err);
    if (encoded == NULL || !string_percent_decode(encoded, &back, err) ||
        !base64url_encode(bytes_from_str(text), &back, err) ||
        !string_sha256_hex((struct bytes[]){buffer_view(&back)}, 1, hex, err))
        return false;
    assert_true(bytes_equal(buffer_view(&plain), bytes_from_str("some text 1")));
    assert_true(bytes_starts_with(buffer_view(&back), "some text 1", 11));
    return true;
}

TEST_WITH(test_base, NULL, alloc_faults_teardown)
{
    alloc_faults_run("buffers", use_buffers, NULL);
    alloc_faults_run("strings", use_strings, NULL);
}

static bool render_metrics(void *ctx, struct error *err)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(1 << 20);

    metric_observe(METRIC_STAGE_DURATION, "stage=\"queue\"", 0.1);
    return metrics_render(&out, err);
}

TEST_WITH(test_metrics, NULL, alloc_faults_teardown)
{
    /* a series that there is no memory for is dropped, and there from the next time on */
    alloc_arm(1, false);
    metric_add(METRIC_EVENTS, "outcome=\"one\"", 1);
    assert_true(alloc_faults.failed);
    metric_add(METRIC_EVENTS, "outcome=\"one\"", 1);
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(1 << 20);
    struct error err = {0};
    assert_true(metrics_render(&out, &err));
    assert_non_null(strstr(buffer_cstr(&out, &err), "{outcome=\"one\"} 1\n"));
    alloc_faults_run("metrics", render_metrics, NULL);
}

static bool log_a_line(void *ctx, struct error *err)
{
    log_info("a line", F("name", "value"), F("n", 7), F("real", 0.5));
    /* once, so that there is something to fail */
    CLEANUP_FREE char *text = strdup("x");
    return text != NULL || error_oom(err);
}

TEST_WITH(test_log, NULL, alloc_faults_teardown)
{
    log_init("test", LOG_WARNING, LOG_JSON);
    alloc_faults_run("log", log_a_line, NULL);
    assert_int_equal(alloc_faults.n, 2); /* the log takes no memory */
}

/* ---- requests and replies */

static bool make_replies(void *ctx, struct error *err)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(65536);
    const struct error wrong = {ERROR_BAD_REQUEST, "wrong"};

    CLEANUP(reply_done)
    struct reply json = reply_json(200, json_pack("{s:s,s:[iii]}", "a", "b", "c", 1, 2, 3));
    CLEANUP(reply_done) struct reply text = reply_text(200, "text/plain", "some text");
    CLEANUP(reply_done) struct reply error = reply_error(&wrong);
    reply_add_header(&json, "X-Name", "%d", 1);
    if (json.error.code != ERROR_NONE || text.error.code != ERROR_NONE) {
        *err = json.error.code != ERROR_NONE ? json.error : text.error;
        assert_int_equal(json.error.code == ERROR_NONE ? text.status : json.status, 503);
        return false;
    }
    assert_int_equal(json.status, 200);
    assert_true(json.body.len > 10);
    assert_int_equal(text.body.len, 9);
    assert_int_equal(error.status, 400);
    return reply_error_body(ERROR_FORM_PROBLEM, &wrong, "id", &out, err) &&
           reply_on_the_wire(&error, "id", "", &out, err);
}

static bool option(void *ctx, const char *name, const char *value, struct error *err)
{
    assert_string_equal(name, "width");
    assert_string_equal(value, "7");
    return true;
}

static bool read_upload(void *ctx, struct error *err)
{
    static const char body[] = "--b\r\nContent-Disposition: form-data; name=\"width\"\r\n\r\n7\r\n"
                               "--b\r\nContent-Disposition: form-data; name=\"file\"; "
                               "filename=\"f\"\r\n\r\nabc\r\n--b--\r\n";
    const struct http_field type = {"Content-Type", "multipart/form-data; boundary=b"};
    const struct request req = {
        .headers = &type, .header_count = 1, .body = bytes_of(body, sizeof(body) - 1)};
    struct upload upload;

    CLEANUP_FREE char *one = strdup("x"); /* the upload itself takes no memory */
    if (one == NULL)
        return error_oom(err);
    if (!upload_read(&req, &upload, err) || !upload_options(&req, &upload, option, NULL, err))
        return false;
    assert_int_equal(upload.file.len, 3);
    return true;
}

static bool code_bodies(void *ctx, struct error *err)
{
    struct byte_budget budget = {.max = 1 << 20};
    const struct http_field gzip = {"Content-Encoding", "gzip"};
    CLEANUP(decoded_body_done) struct decoded_body body = {0};
    CLEANUP(reply_done) struct reply reply = reply_text(200, "text/plain", "some text");

    if (reply.error.code != ERROR_NONE) {
        *err = reply.error;
        return false;
    }
    if (!reply_encode(&reply, CODING_GZIP, err)) {
        assert_int_equal(reply.body.len, 9); /* as it was */
        return false;
    }
    const struct request req = {.headers = &gzip,
                                .header_count = 1,
                                .body = buffer_view(&reply.body),
                                .context = {.budget = &budget}};
    if (!body_decode(&req, 100, &body, err)) {
        assert_int_equal(budget.used, 0);
        return false;
    }
    assert_int_equal(body.bytes.len, 9);
    return true;
}

TEST_WITH(test_http, NULL, alloc_faults_teardown)
{
    alloc_faults_run("encodings", code_bodies, NULL);
    alloc_faults_run("replies", make_replies, NULL);
    alloc_faults_run("upload", read_upload, NULL);
}

/* ---- tokens */

static bool read_token(void *ctx, struct error *err)
{
    CLEANUP(jwt_done) struct jwt jwt = {0};
    const struct oidc_guests guests = {"aud", "a@b"};

    if (!jwt_read(ctx, JWT_RS256, &jwt, err) || !jwt_verify(&jwt, key, err))
        return false;
    json_t *claims = jwt_claims(&jwt, err);
    bool ok = claims != NULL &&
              oidc_check_claims(claims, "https://issuer", &guests, clock_wall_ms() / 1000, err);
    json_decref(claims);
    return ok;
}

static bool read_key_set(void *ctx, struct error *err)
{
    CLEANUP(jwk_set_done) struct jwk_set set = {0};

    if (!jwk_set_read(bytes_from_str(ctx), &set, err)) {
        assert_int_equal(set.count, 0);
        return false;
    }
    /* a key that there was no memory for may be missing, but then the set is refused */
    assert_int_equal(set.count, 2);
    return true;
}

TEST_WITH(test_tokens, NULL, alloc_faults_teardown)
{
    CLEANUP_FREE char *claims =
        xasprintf("{\"iss\":\"https://issuer\",\"aud\":\"aud\",\"email\":\"a@b\","
                  "\"email_verified\":true,\"sub\":\"1\",\"iat\":%lld,\"exp\":%lld}",
                  (long long)clock_wall_ms() / 1000, (long long)clock_wall_ms() / 1000 + 600);
    CLEANUP_FREE char *token = make_token(HEADER, claims, key);
    CLEANUP_FREE char *one = make_jwk("one", key, ",\"alg\":\"RS256\",\"use\":\"sig\"");
    CLEANUP_FREE char *two = make_jwk("two", key, "");
    CLEANUP_FREE char *set = xasprintf("{\"keys\":[%s,%s]}", one, two);

    alloc_faults_run("token", read_token, token);
    alloc_faults_run("key set", read_key_set, set);
}

static bool sign_in(void *ctx, struct error *err)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(16384);
    struct google_key *google = google_key_read(ctx, err);

    if (google == NULL)
        return false;
    assert_string_equal(google_key_token_uri(google), "https://token/uri");
    bool ok = google_key_assertion(google, "scope", 1700000000, &out, err);
    google_key_free(google);
    if (!ok)
        return false;
    struct bearer *token = google_token_new(
        &(struct google_token_options){.scope = "s", .metadata_host = "", .credentials_file = ctx},
        err);
    google_token_free(token);
    return token != NULL;
}

TEST_WITH(test_google_key, NULL, alloc_faults_teardown)
{
    char path[] = "/tmp/test_alloc_faults.XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;

    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    long len = BIO_get_mem_data(bio, &pem);
    json_t *json = json_pack("{s:s,s:s%,s:s}", "client_email", "a@b", "private_key", pem,
                             (size_t)len, "token_uri", "https://token/uri");
    assert_int_equal(json_dumpf(json, file, 0), 0);
    json_decref(json);
    BIO_free(bio);
    fclose(file);
    alloc_faults_run("google key", sign_in, path);
    unlink(path);
}

/* ---- events */

/* {"gcs_path":"gs://b/k"} */
#define DATA "eyJnY3NfcGF0aCI6ImdzOi8vYi9rIn0="
#define GCS_ATTRIBUTES                                                                             \
    "\"attributes\":{\"eventType\":\"OBJECT_FINALIZE\",\"bucketId\":\"b\",\"objectId\":\"k\"}"
#define CE                                                                                         \
    {"ce-specversion", "1.0"}, {"ce-id", "7"},                                                     \
    {                                                                                              \
        "ce-source", "//src"                                                                       \
    }
#define EVENT(type, data)                                                                          \
    "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"//src\",\"type\":\"" type                  \
    "\",\"data\":" data "}"
#define PUBLISHED "google.cloud.pubsub.topic.v1.messagePublished"
#define FINALIZED "google.cloud.storage.object.v1.finalized"
#define RECORD                                                                                     \
    "{\"eventName\":\"ObjectCreated:Put\",\"eventSource\":\"aws:s3\",\"s3\":{\"bucket\":{"         \
    "\"name\":"                                                                                    \
    "\"b\"},\"object\":{\"key\":\"k\",\"sequencer\":\"5\"}}}"

struct posted {
    const char *name;
    const char *scheme;
    struct http_field headers[5];
    const char *body;
};

static const struct posted posted[] = {
    {"wrapped push",
     "gs",
     {{NULL, NULL}},
     "{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"1\"}}"},
    {"wrapped push of Cloud Storage", "gs", {{NULL, NULL}}, "{\"message\":{" GCS_ATTRIBUTES "}}"},
    {"unwrapped push", "gs", {{"x-goog-pubsub-message-id", "8"}}, "{\"gcs_path\":\"gs://b/k\"}"},
    {"CloudEvent, binary, Pub/Sub",
     "gs",
     {CE, {"ce-type", PUBLISHED}},
     "{\"message\":{\"data\":\"" DATA "\"}}"},
    {"CloudEvent, binary, storage",
     "gs",
     {CE, {"ce-type", FINALIZED}},
     "{\"bucket\":\"b\",\"name\":\"k\"}"},
    {"CloudEvent, structured",
     "gs",
     {{"Content-Type", "application/cloudevents+json"}},
     EVENT(FINALIZED, "{\"bucket\":\"b\",\"name\":\"k\"}")},
    {"CloudEvent, structured, Pub/Sub",
     "gs",
     {{"Content-Type", "application/cloudevents+json"}},
     EVENT(PUBLISHED, "{\"message\":{\"data\":\"" DATA "\"}}")},
    {"S3", "s3", {{NULL, NULL}}, "{\"Records\":[" RECORD "," RECORD "," RECORD "]}"},
};

static bool read_notification(void *ctx, struct error *err)
{
    const struct posted *p = ctx;
    struct request req = {.headers = p->headers, .body = bytes_from_str(p->body)};
    struct notification n = {0};

    while (req.header_count < ARRAY_SIZE(p->headers) && p->headers[req.header_count].name != NULL)
        req.header_count++;
    if (!notification_read(&req, &n, err)) {
        assert_null(n.events);
        return false;
    }
    assert_int_equal(n.count, strcmp(p->scheme, "s3") == 0 ? 3 : 1);
    for (size_t i = 0; i < n.count; i++) {
        assert_non_null(n.events[i].uri); /* "nothing was created" would lose the event */
        assert_memory_equal(n.events[i].uri, p->scheme, 2);
        assert_string_equal(n.events[i].uri + 2, "://b/k");
    }
    notification_done(&n);
    return true;
}

TEST_WITH(test_notifications, NULL, alloc_faults_teardown)
{
    for (size_t i = 0; i < ARRAY_SIZE(posted); i++) {
        struct posted p = posted[i];
        alloc_faults_run(p.name, read_notification, &p);
    }
}

static bool write_envelope(void *ctx, struct error *err)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);

    if (!envelope_write(ctx, &out, err))
        return false;
    json_t *json = json_loadb((const char *)out.data, out.len, 0, NULL);
    assert_non_null(json);
    json_decref(json);
    return true;
}

TEST_WITH(test_envelope, NULL, alloc_faults_teardown)
{
    char uri[] = "gs://b/k", type[] = "image/jpeg";
    struct outbox_row row = {
        .event_id = "e", .id = "i", .gcs_path = uri, .content_type = type, .attempts = 2};

    alloc_faults_run("envelope", write_envelope, &row);
}

/* ---- the harness itself */

static bool forgets_to_look(void *ctx, struct error *err)
{
    CLEANUP_FREE char *text = strdup("x");
    return text != NULL; /* without saying why not */
}

/* A run with a fault, of which the failure is expected. */
TEST_WITH(test_harness, NULL, alloc_faults_teardown)
{
    struct error err = {0};
    long before = alloc_faults.live_count;

    void *volatile x = strdup("x");
    assert_int_equal(alloc_faults.live_count, before + 1);
    void *volatile p = realloc(x, 100000);
    assert_non_null(p);
    assert_int_equal(alloc_faults.live_count, before + 1);
    alloc_arm(1, false);
    void *larger = realloc(p, 200000);
    assert_true(alloc_faults.failed);
    assert_int_equal(alloc_faults.live_count, before + 1);
    free(larger != NULL ? larger : p);
    assert_int_equal(alloc_faults.live_count, before);
    alloc_arm(2, true);
    CLEANUP_FREE char *first = strdup("a");
    CLEANUP_FREE char *second = strdup("b");
    CLEANUP_FREE char *third = strdup("c");
    assert_true(first != NULL && second == NULL && third == NULL);
    assert_true(alloc_faults.failed);
    alloc_arm(1, false);
    assert_false(forgets_to_look(NULL, &err));
    assert_int_equal(err.code, ERROR_NONE); /* what alloc_run_with_fault refuses */
    alloc_arm(0, false);
}

static int make_key(void **state)
{
    alloc_faults_hook();
    key = EVP_RSA_gen(2048);
    return key == NULL;
}

static int free_key(void **state)
{
    EVP_PKEY_free(key);
    return 0;
}

TEST_MAIN(make_key, free_key)
