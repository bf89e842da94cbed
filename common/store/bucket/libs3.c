/* S3 with Signature Version 2, by libs3: for servers on a private network that know nothing newer.
 * libs3 composes and signs each request (libs3_transfer.h says what it does not do); what the
 * replies mean, attempts and listing are those of every other bucket (bucket.c). SigV2 servers have
 * no conditional PUT: "if absent" is a HEAD and then a PUT, and of two writers at the same time the
 * last one wins.
 *
 * Only this file includes libs3.h. */
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/bucket/bucket.h"
#include "store/bucket/libs3_transfer.h"

#include <inttypes.h>
#include <libs3.h>
#include <pthread.h>
#include <string.h>

enum {
    IDLE_MAX = 32,       /* contexts kept, each with its connection */
    ACCESS_KEY_MAX = 72, /* libs3 cuts a longer Authorization header */
    SECRET_KEY_MAX = 64, /* libs3 signs wrongly with a longer one */
};

struct libs3 {
    struct bucket *bucket;
    S3BucketContext where;
    pthread_mutex_t lock;
    S3RequestContext *idle[IDLE_MAX];
    size_t idle_count;
};

static S3RequestContext *take_context(struct libs3 *s)
{
    S3RequestContext *context = NULL;

    pthread_mutex_lock(&s->lock);
    if (s->idle_count > 0)
        context = s->idle[--s->idle_count];
    pthread_mutex_unlock(&s->lock);
    if (context == NULL && S3_create_request_context(&context) != S3StatusOK)
        return NULL;
    return context;
}

static void keep_context(struct libs3 *s, S3RequestContext *context)
{
    pthread_mutex_lock(&s->lock);
    if (s->idle_count < IDLE_MAX)
        s->idle[s->idle_count++] = TAKE_PTR(context);
    pthread_mutex_unlock(&s->lock);
    if (context != NULL)
        S3_destroy_request_context(context);
}

/* One request on its way through libs3. */
struct libs3_call {
    struct libs3_transfer transfer;
    bool finished; /* libs3 is done with it */
    bool complete; /* and the reply is whole */
    S3Status status;
};

static S3Status on_properties(const S3ResponseProperties *properties, void *ctx)
{
    (void)properties;
    (void)ctx;
    return S3StatusOK;
}

static void on_complete(S3Status status, const S3ErrorDetails *details, void *ctx)
{
    struct libs3_call *r = ctx;

    (void)details;
    r->finished = true;
    r->status = status;
    r->complete = libs3_transfer_complete(&r->transfer);
}

static const S3ResponseHandler response_handler = {on_properties, on_complete};

static const char *header_of(const struct bucket_call *call, const char *name)
{
    for (size_t i = 0; i < call->header_count; i++)
        if (strcmp(call->headers[i].name, name) == 0)
            return call->headers[i].value;
    return NULL;
}

static void start_put(struct libs3 *s, const struct bucket_call *call, S3RequestContext *context,
                      struct libs3_call *r)
{
    static const S3PutObjectHandler handler = {{on_properties, on_complete}, NULL};
    const S3PutProperties properties = {
        .contentType = header_of(call, "content-type"),
        .expires = -1,
    };

    S3_put_object(&s->where, call->key, call->body.len, &properties, context, &handler, r);
}

static void start_get(struct libs3 *s, const struct bucket_call *call, S3RequestContext *context,
                      struct libs3_call *r)
{
    static const S3GetObjectHandler handler = {{on_properties, on_complete}, NULL};
    const char *range = header_of(call, "range");
    uint64_t first = 0, last = 0, count = 0;

    if (range != NULL && sscanf(range, "bytes=%" SCNu64 "-%" SCNu64, &first, &last) == 2)
        count = last - first + 1;
    S3_get_object(&s->where, call->key, NULL, first, count, context, &handler, r);
}

static void start(struct libs3 *s, const struct bucket_call *call, S3RequestContext *context,
                  struct libs3_call *r)
{
    static const S3ListBucketHandler list_handler = {{on_properties, on_complete}, NULL};

    if (call->key == NULL) /* SigV2 does not sign a listing's query, which goes into the URL */
        S3_list_bucket(&s->where, NULL, NULL, NULL, 0, context, &list_handler, r);
    else if (strcmp(call->method, "PUT") == 0)
        start_put(s, call, context, r);
    else if (strcmp(call->method, "GET") == 0)
        start_get(s, call, context, r);
    else if (strcmp(call->method, "HEAD") == 0)
        S3_head_object(&s->where, call->key, context, &response_handler, r);
    else
        S3_delete_object(&s->where, call->key, context, &response_handler, r);
}

/* Until libs3 is done or the time is up. */
static void run(struct libs3 *s, S3RequestContext *context, int64_t deadline_ms,
                struct libs3_call *r)
{
    int running = 0;

    while (!r->finished && S3_runonce_request_context(context, &running) == S3StatusOK &&
           !r->finished) {
        int64_t left_ms = clock_left_ms(clock_cut_deadline(s->bucket->options.cut, deadline_ms));
        if (left_ms == 0) {
            error_set(&r->transfer.err, ERROR_DEADLINE, "no time left");
            return;
        }
        libs3_transfer_wait(&r->transfer,
                            left_ms < CLOCK_CUT_LOOK_MS ? left_ms : CLOCK_CUT_LOOK_MS);
    }
}

static bool fail(const struct libs3 *s, const struct libs3_call *r, struct error *err)
{
    if (r->transfer.multi == NULL && r->status == S3StatusOutOfMemory)
        return error_oom(err);
    if (r->transfer.multi == NULL && r->finished)
        return error_set(err, ERROR_BAD_REQUEST, "libs3 does not take this request (%s)",
                         S3_get_status_name(r->status));
    if (r->transfer.err.code == ERROR_NONE)
        return error_set(err, ERROR_UNAVAILABLE, "%s: libs3 fails", s->bucket->host);
    *err = r->transfer.err;
    return error_wrap(err, "%s", s->bucket->host);
}

static bool libs3_send(struct bucket *bucket, const struct bucket_attempt *attempt,
                       struct http_reply *ret, struct error *err)
{
    struct libs3 *s = bucket->state;
    const struct bucket_call *call = attempt->call;
    CLEANUP_FREE char *url =
        call->key != NULL ? NULL : xasprintf("%s%s/?%s", bucket->base, bucket->root, call->query);
    struct libs3_call r = {
        .transfer =
            {
                .url = url,
                .body = call->body,
                .is_get = strcmp(call->method, "GET") == 0,
                .max_reply_bytes = bucket_reply_max(call),
                .skew_s = attempt->skew_s,
            },
    };

    for (size_t i = 0; i < call->header_count; i++) {
        const char *value = call->headers[i].value;
        /* servers trim before they check the signature */
        if (*value == ' ' || value[strlen(value) - 1] == ' ')
            return error_set(err, ERROR_BAD_REQUEST, "a content type with spaces at its ends");
    }
    S3RequestContext *context = take_context(s);
    if (context == NULL)
        return error_oom(err);
    libs3_transfer_enter(&r.transfer);
    start(s, call, context, &r);
    run(s, context, call->deadline_ms, &r);
    libs3_transfer_done(&r.transfer);
    if (r.finished)
        keep_context(s, context);
    else
        S3_destroy_request_context(context); /* drops the connection; calls on_complete */
    libs3_transfer_enter(NULL);
    if (r.complete) {
        *ret = r.transfer.reply;
        return true;
    }
    http_reply_done(&r.transfer.reply);
    return fail(s, &r, err);
}

/* libs3 counts its users without a lock. */
static pthread_mutex_t initialize_lock = PTHREAD_MUTEX_INITIALIZER;

static bool initialize(struct error *err)
{
    pthread_mutex_lock(&initialize_lock);
    S3Status status = S3_initialize("darkroom", S3_INIT_ALL, NULL);
    if (status != S3StatusOK)
        S3_deinitialize();
    pthread_mutex_unlock(&initialize_lock);
    return status == S3StatusOK ||
           error_set(err, ERROR_CONFIG, "libs3: %s", S3_get_status_name(status));
}

static void libs3_close(struct bucket *bucket)
{
    struct libs3 *s = bucket->state;

    while (s->idle_count > 0)
        S3_destroy_request_context(s->idle[--s->idle_count]);
    pthread_mutex_lock(&initialize_lock);
    S3_deinitialize();
    pthread_mutex_unlock(&initialize_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

bool store_libs3_check(const struct store_options *options, const char *bucket,
                       store_mistake_fn mistake, void *ctx)
{
    S3UriStyle style = options->s3.virtual_addressing ? S3UriStyleVirtualHost : S3UriStylePath;
    bool ok = true;

    if (!string_starts_with(options->s3.endpoint, "http://"))
        ok = mistake(ctx, "S3_SIGNATURE=v2 needs an http:// S3_ENDPOINT, since libs3 does not "
                          "verify a TLS peer: use S3_SIGNATURE=v4");
    if (*options->s3.session_token != '\0')
        ok = mistake(ctx, "S3_SIGNATURE=v2 has no session tokens: use S3_SIGNATURE=v4");
    if (strlen(options->s3.access_key) > ACCESS_KEY_MAX ||
        strlen(options->s3.secret_key) > SECRET_KEY_MAX)
        ok = mistake(ctx, "S3_SIGNATURE=v2 takes an access key of at most 72 bytes and a secret "
                          "key of at most 64");
    if (S3_validate_bucket_name(bucket, style) != S3StatusOK)
        ok = mistake(ctx, "S3_SIGNATURE=v2 takes no such bucket name: use S3_SIGNATURE=v4");
    return ok;
}
_Static_assert(ACCESS_KEY_MAX == 72 && SECRET_KEY_MAX == 64, "the text above");

static const struct bucket_dialect libs3_dialect = {
    .send = libs3_send,
    .refused = bucket_refused_for_time,
    .close = libs3_close,
};

void *store_libs3_open(const struct store_options *options, const char *name, struct error *err)
{
    struct bucket *bucket = bucket_new(&libs3_dialect, options, options->s3.endpoint, name,
                                       options->s3.virtual_addressing, err);

    if (bucket == NULL) {
        error_wrap(err, "S3_ENDPOINT");
        return NULL;
    }
    if (!initialize(err)) {
        bucket_free(bucket);
        return NULL;
    }
    struct libs3 *s = xcalloc(1, sizeof(*s));
    pthread_mutex_init(&s->lock, NULL);
    s->bucket = bucket;
    s->where = (S3BucketContext){
        .hostName = bucket->host + (options->s3.virtual_addressing ? strlen(name) + 1 : 0),
        .bucketName = name,
        .protocol = S3ProtocolHTTP,
        .uriStyle = options->s3.virtual_addressing ? S3UriStyleVirtualHost : S3UriStylePath,
        .accessKeyId = options->s3.access_key,
        .secretAccessKey = options->s3.secret_key,
    };
    bucket->state = s;
    atomic_store(&bucket->unconditional, true);
    return bucket;
}
