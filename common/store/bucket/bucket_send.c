/* One call to a bucket: addressing, attempts, and what the answers mean. */
#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/bucket/bucket.h"
#include "store/bucket/xml.h"

#include <string.h>

enum {
    ATTEMPTS_MAX = 4,
    BACKOFF_FIRST_MS = 100, /* doubling; the pause is a random part of it ("full jitter") */
    SILENCE_MS = 10000,
    ERROR_BODY_MAX = 64 * 1024,
};

size_t bucket_reply_max(const struct bucket_call *call)
{
    return call->max_reply_bytes > ERROR_BODY_MAX ? call->max_reply_bytes : ERROR_BODY_MAX;
}

void bucket_call_header(struct bucket_call *call, const char *name, const char *value)
{
    if (call->header_count < BUCKET_HEADERS_MAX)
        call->headers[call->header_count++] = (struct sigv4_header){name, value};
}

void bucket_attempt_header(struct bucket_attempt *attempt, char *line)
{
    if (attempt->line_count + 1 < ARRAY_SIZE(attempt->lines))
        attempt->lines[attempt->line_count++] = line;
    else
        free(line);
}

static void attempt_done(struct bucket_attempt *attempt)
{
    for (size_t i = 0; i < attempt->line_count; i++)
        free(attempt->lines[i]);
    free(attempt->path);
}

/* "/bucket/key"; key NULL for the bucket itself. S3 encodes once, and nothing is normalised. */
static char *bucket_path(const struct bucket *bucket, const char *key, struct error *err)
{
    CLEANUP(buffer_done) struct buffer path = BUFFER_MAX(512 + 3 * STORE_KEY_MAX);

    if (!buffer_append_str(&path, bucket->root, err) ||
        ((key != NULL || *bucket->root == '\0') && !buffer_append(&path, "/", 1, err)) ||
        (key != NULL && !string_percent_encode(key, "/", &path, err)) ||
        buffer_cstr(&path, err) == NULL)
        return NULL;
    return (char *)TAKE_PTR(path.data);
}

static bool send_attempt(struct bucket *bucket, struct bucket_attempt *attempt,
                         struct http_reply *ret, struct error *err)
{
    const struct bucket_call *call = attempt->call;
    attempt->prepared = bucket->dialect->send != NULL;
    if (attempt->prepared)
        return bucket->dialect->send(bucket, attempt, ret, err);
    attempt->path = bucket_path(bucket, call->key, err);
    if (attempt->path == NULL)
        return false;
    for (size_t i = 0; i < call->header_count; i++)
        bucket_attempt_header(attempt,
                              xasprintf("%s: %s", call->headers[i].name, call->headers[i].value));
    attempt->prepared = bucket->dialect->prepare(bucket, attempt, err);
    if (!attempt->prepared)
        return false;
    CLEANUP_FREE char *url = xasprintf("%s%s%s%s", bucket->base, attempt->path,
                                       *call->query != '\0' ? "?" : "", call->query);
    return http_client_call(bucket->options.client,
                            &(struct http_call){
                                .method = call->method,
                                .url = url,
                                .headers = (const char *const *)attempt->lines,
                                .body = call->body,
                                .deadline_ms = call->deadline_ms,
                                .silence_ms = SILENCE_MS,
                                .max_reply_bytes = bucket_reply_max(call),
                            },
                            ret, err);
}

static bool read_code(void *ctx, const char *path, const char *text, struct error *err)
{
    (void)err;
    if (strcmp(path, "Error/Code") == 0 && store_is_printable(text, BUCKET_CODE_MAX - 1))
        memcpy(ctx, text, strlen(text) + 1);
    return string_starts_with(path, "Error/"); /* anything else is no error document */
}

/* The error code of a reply, "" without one. */
static void error_code_of(const struct http_reply *reply, char code[BUCKET_CODE_MAX])
{
    struct error ignored;

    *code = '\0';
    if (reply->body.len > 0 && reply->body.data[0] == '<' &&
        !xml_read(buffer_view(&reply->body), read_code, code, &ignored))
        return; /* what was read until then is good enough */
    /* HEAD has no document: MinIO says it in a header, too */
    if (*code == '\0' && !http_reply_header(reply, "x-minio-error-code", code, BUCKET_CODE_MAX))
        *code = '\0';
}

enum verdict { VERDICT_DONE, VERDICT_FAILED, VERDICT_AGAIN };

/* A 400 is about the key, about time, or something that the operator has to mend. */
static enum verdict judge_400(const char *code, struct error *err)
{
    static const char *const about_keys[] = {"KeyTooLongError", "InvalidObjectName", "InvalidURI",
                                             "XMinioInvalidObjectName"};

    for (size_t i = 0; i < ARRAY_SIZE(about_keys); i++)
        if (strcmp(code, about_keys[i]) == 0) {
            error_set(err, ERROR_BAD_REQUEST, "the object storage does not take this key (%s)",
                      code);
            return VERDICT_FAILED;
        }
    error_set(err, ERROR_UNAVAILABLE, "the object storage answers 400 %s", code);
    return strcmp(code, "RequestTimeout") == 0 ? VERDICT_AGAIN : VERDICT_FAILED;
}

/* An object's reply names its ETag; without one, and with an error document for anything else, a
 * 2xx is none (S3 may find out late that it failed, and proxies invent pages). What has no length
 * ends when the connection does, for whatever reason: nobody knows whether that is all. */
static bool is_whole(const struct bucket_call *call, const struct http_reply *reply,
                     const char *code)
{
    char text[STORE_ETAG_MAX + 8];
    bool object = call->key != NULL && strcmp(call->method, "DELETE") != 0;

    if (!object)
        return *code == '\0';
    return http_reply_header(reply, "etag", text, sizeof(text)) &&
           (reply->body.len == 0 ||
            http_reply_header(reply, "content-length", text, sizeof(text)) ||
            http_reply_header(reply, "transfer-encoding", text, sizeof(text)));
}

static enum verdict judge_status(struct bucket *bucket, const struct bucket_attempt *attempt,
                                 const struct http_reply *reply, struct error *err)
{
    char code[BUCKET_CODE_MAX];
    int status = (int)reply->status;

    error_code_of(reply, code);
    if (status < 300 && is_whole(attempt->call, reply, code))
        return VERDICT_DONE;
    if (status == 404 && strcmp(code, "NoSuchBucket") == 0) {
        error_set(err, ERROR_UNAVAILABLE, "the bucket does not exist: create it");
        return VERDICT_FAILED;
    }
    if (status == 404 && *code != '\0' && strcmp(code, "NoSuchKey") != 0) {
        error_set(err, ERROR_UNAVAILABLE, "the object storage answers 404 %s", code);
        return VERDICT_FAILED;
    }
    if (status == 404 || status == 412 || status == 416 || status == 501)
        return VERDICT_DONE;
    if (status == 400)
        return judge_400(code, err);
    if (status == 401 || status == 403) {
        error_set(
            err, ERROR_UNAVAILABLE,
            "the object storage refuses our credentials or permissions (%d %s); reading needs "
            "the permission to list the bucket, too",
            status, code);
        return bucket->dialect->refused(bucket, attempt, reply, code) ? VERDICT_AGAIN
                                                                      : VERDICT_FAILED;
    }
    if (status >= 300 && status < 400) {
        error_set(err, ERROR_UNAVAILABLE,
                  "the object storage redirects (%d %s): check the endpoint and the region", status,
                  code);
        return VERDICT_FAILED;
    }
    error_set(err, ERROR_UNAVAILABLE, "the object storage answers %d %s", status,
              status < 300 && *code == '\0' ? "without an object" : code);
    bool passing = status < 300 || status == 408 || status == 409 || status == 429 || status >= 500;
    return passing ? VERDICT_AGAIN : VERDICT_FAILED;
}

/* No complete reply. Too large a one is the object's matter only where an object was to come. */
static enum verdict judge_failure(const struct bucket_call *call, struct error *err)
{
    if (err->code == ERROR_UNAVAILABLE)
        return VERDICT_AGAIN;
    if (err->code == ERROR_TOO_LARGE && call->key != NULL && strcmp(call->method, "GET") == 0)
        error_set(err, ERROR_TOO_LARGE, "the object is larger than %zu bytes",
                  call->max_reply_bytes);
    else if (err->code == ERROR_TOO_LARGE)
        error_set(err, ERROR_UNAVAILABLE, "the object storage answers with too many bytes");
    return VERDICT_FAILED;
}

/* False when there is no time for another attempt. */
static bool pause_before(const struct bucket *bucket, int attempt, int64_t deadline_ms)
{
    int64_t pause_ms = 1 + clock_jitter_ms((BACKOFF_FIRST_MS << attempt) - 1);

    if (pause_ms >= clock_left_ms(clock_cut_deadline(bucket->options.cut, deadline_ms)))
        return false;
    clock_pause(pause_ms);
    return true;
}

bool bucket_send(struct bucket *bucket, const struct bucket_call *call, struct http_reply *ret,
                 struct error *err)
{
    bool refused = false;

    for (int i = 0;; i++) {
        CLEANUP(attempt_done)
        struct bucket_attempt attempt = {
            .call = call,
            .skew_s = atomic_load(&bucket->skew_s),
        };
        struct error why = {0};
        struct http_reply reply = {0};
        enum verdict verdict;
        bool answered = send_attempt(bucket, &attempt, &reply, &why);
        if (answered)
            verdict = judge_status(bucket, &attempt, &reply, &why);
        else
            verdict = attempt.prepared ? judge_failure(call, &why) : VERDICT_FAILED;
        if (verdict == VERDICT_DONE) {
            if (call->key != NULL ? reply.status < 300 : reply.status != 404)
                atomic_store(&bucket->seen_ms, clock_monotonic_ms());
            *ret = reply;
            return true;
        }
        bool again = verdict == VERDICT_AGAIN && i + 1 < ATTEMPTS_MAX;
        if (answered && (reply.status == 401 || reply.status == 403)) {
            again = again && !refused; /* one more try, no pause: time or token were set right */
            refused = true;
        } else {
            again = again && pause_before(bucket, i, call->deadline_ms);
        }
        http_reply_done(&reply);
        if (!again) {
            *err = why;
            return false;
        }
    }
}

/* "http(s)://host[:port]" or the same with a slash: the scheme with "://", and what follows. */
static bool split_endpoint(const char *endpoint, size_t *scheme, size_t *authority,
                           struct error *err)
{
    *scheme = string_starts_with(endpoint, "https://")  ? strlen("https://")
              : string_starts_with(endpoint, "http://") ? strlen("http://")
                                                        : 0;
    const char *host = endpoint + *scheme;
    *authority = strcspn(host, "/?#");
    if (*scheme == 0 || *authority == 0 || *host == ':' || memchr(host, '@', *authority) != NULL ||
        strpbrk(host, " \"<>\\^`{|}%") != NULL ||
        (host[*authority] != '\0' && strcmp(host + *authority, "/") != 0))
        return error_set(err, ERROR_CONFIG, "the endpoint is not http(s)://host[:port]");
    /* the Host header omits the scheme's own port, and so does what is signed */
    const char *port = *scheme == strlen("https://") ? ":443" : ":80";
    size_t len = strlen(port);
    if (*authority > len && memcmp(host + *authority - len, port, len) == 0)
        *authority -= len;
    return true;
}

struct bucket *bucket_new(const struct bucket_dialect *dialect, const struct store_options *options,
                          const char *endpoint, const char *name, bool virtual_addressing,
                          struct error *err)
{
    size_t scheme, authority;

    if (!split_endpoint(endpoint, &scheme, &authority, err))
        return NULL;
    struct bucket *bucket = xcalloc(1, sizeof(*bucket));
    bucket->dialect = dialect;
    bucket->options = *options;
    bucket->host = xasprintf("%s%s%.*s", virtual_addressing ? name : "",
                             virtual_addressing ? "." : "", (int)authority, endpoint + scheme);
    bucket->root = virtual_addressing ? xstrdup("") : xasprintf("/%s", name);
    bucket->base = xasprintf("%.*s%s", (int)scheme, endpoint, bucket->host);
    return bucket;
}

void bucket_free(void *state)
{
    struct bucket *bucket = state;

    if (bucket->state != NULL && bucket->dialect->close != NULL)
        bucket->dialect->close(bucket);
    free(bucket->base);
    free(bucket->host);
    free(bucket->root);
    free(bucket);
}
