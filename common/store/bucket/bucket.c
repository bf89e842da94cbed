/* The driver of a bucket behind a REST API: S3 (s3.c) and Google's (gcs.c). */
#include "store/bucket/bucket.h"

#include "base/strings.h"

#include <inttypes.h>
#include <string.h>

enum {
    RANGE_TEXT_MAX = 64,
    BUCKET_SEEN_MS = 60000, /* so long a bucket is taken to be still there */
    SKEW_MIN_S = 240, /* S3 refuses from 15 minutes on; a HEAD is refused without saying why */
};

static bool unexpected(const struct http_reply *reply, struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "the object storage answers %ld%s", reply->status,
                     reply->status == 404 ? ": is the bucket there?" : "");
}

/* Without quotes, and without the weakness that some proxies add when they compress. */
static bool read_etag(const struct http_reply *reply, char out[STORE_ETAG_MAX], struct error *err)
{
    char text[STORE_ETAG_MAX + 8];

    if (!http_reply_header(reply, "etag", text, sizeof(text)))
        return error_set(err, ERROR_UNAVAILABLE, "the object storage sends no usable ETag");
    const char *from = text + (string_starts_with(text, "W/") ? 2 : 0);
    from += *from == '"';
    size_t len = strcspn(from, "\"");
    if (len == 0 || len >= STORE_ETAG_MAX)
        return error_set(err, ERROR_UNAVAILABLE, "the object storage sends no usable ETag");
    memcpy(out, from, len);
    out[len] = '\0';
    return true;
}

/* All of info but the size. */
static bool read_info(const struct http_reply *reply, struct store_info *info, struct error *err)
{
    char date[64];

    int64_t modified_s =
        http_reply_header(reply, "last-modified", date, sizeof(date)) ? bucket_http_date(date) : -1;
    info->modified_ms = modified_s > 0 ? modified_s * 1000 : 0;
    return read_etag(reply, info->etag, err);
}

/* Whether what came is what the header announces and was asked for; the object's size. */
static bool check_range(const struct store_get *get, const struct http_reply *reply, uint64_t *size,
                        struct error *err)
{
    char text[RANGE_TEXT_MAX];
    uint64_t first = 0, last = 0, len = reply->body.len;

    if (reply->status == 206 && http_reply_header(reply, "content-range", text, sizeof(text)) &&
        sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &first, &last, size) == 3 &&
        first == get->offset && last >= first && last - first + 1 == len && last < *size &&
        (get->length == 0 || len <= get->length) && (len == get->length || last + 1 == *size))
        return true;
    return error_set(err, ERROR_UNAVAILABLE, "the object storage answers another range than asked");
}

static bool take_body(const struct store_get *get, struct http_reply *reply, struct buffer *data,
                      struct error *err)
{
    if (reply->body.len > get->max_bytes)
        return error_set(err, ERROR_TOO_LARGE, "the object is larger than %zu bytes",
                         get->max_bytes);
    if (data->data != NULL || reply->body.len > data->max)
        return buffer_append(data, reply->body.data, reply->body.len, err);
    size_t max = data->max;
    *data = reply->body; /* no copy of what may be megabytes */
    data->max = max;
    reply->body = (struct buffer){0};
    return true;
}

/* Always false: ERROR_NOT_FOUND, unless it is the bucket that is missing, which a 404 without a
 * body does not say. */
static bool not_found(struct bucket *bucket, const struct http_reply *missing, int64_t deadline_ms,
                      struct error *err)
{
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    int64_t seen_ms = atomic_load(&bucket->seen_ms);
    struct bucket_call call = {
        .method = "GET",
        .query = "list-type=2&max-keys=1",
        .max_reply_bytes = BUCKET_LISTING_MAX, /* not everybody heeds max-keys */
        .deadline_ms = deadline_ms,
    };

    bool told = missing->body.len > 0 && missing->body.data[0] == '<';
    bool seen = seen_ms != 0 && clock_monotonic_ms() - seen_ms < BUCKET_SEEN_MS;
    if (!told && !seen) {
        if (!bucket_send(bucket, &call, &reply, err))
            return false;
        if (reply.status >= 300)
            return unexpected(&reply, err);
    }
    return error_set(err, ERROR_NOT_FOUND, "no such object");
}

static bool bucket_get(void *state, const struct store_get *get, struct buffer *data,
                       struct store_info *info, struct error *err)
{
    struct bucket *bucket = state;
    bool ranged = get->offset > 0 || get->length > 0;
    char range[RANGE_TEXT_MAX];
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    struct bucket_call call = {
        .method = "GET",
        .key = get->key,
        .query = "",
        .max_reply_bytes = get->max_bytes,
        .deadline_ms = get->deadline_ms,
    };

    uint64_t last =
        get->length > UINT64_MAX - get->offset ? UINT64_MAX - 1 : get->offset + get->length - 1;
    if (get->length == 0)
        snprintf(range, sizeof(range), "bytes=%" PRIu64 "-", get->offset);
    else
        snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, get->offset,
                 last < INT64_MAX ? last : INT64_MAX);
    if (ranged)
        bucket_call_header(&call, "range", range);
    if (!bucket_send(bucket, &call, &reply, err))
        return false;
    if (reply.status == 404)
        return not_found(bucket, &reply, get->deadline_ms, err);
    if (reply.status == 416 && ranged &&
        get->offset == 0) { /* the first bytes of an empty object */
        struct store_get whole = *get;
        whole.length = 0;
        return bucket_get(state, &whole, data, info, err);
    }
    if (reply.status == 416)
        return error_set(err, ERROR_RANGE, "the range is past the object's end");
    info->size = reply.body.len;
    if (!(ranged ? check_range(get, &reply, &info->size, err)
                 : reply.status == 200 || unexpected(&reply, err)))
        return false;
    return read_info(&reply, info, err) && take_body(get, &reply, data, err);
}

static bool bucket_head(void *state, const char *key, int64_t deadline_ms, struct store_info *info,
                        struct error *err)
{
    struct bucket *bucket = state;
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    struct bucket_call call = {
        .method = "HEAD", .key = key, .query = "", .deadline_ms = deadline_ms};
    char length[32];
    int64_t size = 0;

    if (!bucket_send(bucket, &call, &reply, err))
        return false;
    if (reply.status == 404)
        return not_found(bucket, &reply, deadline_ms, err);
    if (reply.status != 200 ||
        !http_reply_header(&reply, "content-length", length, sizeof(length)) ||
        !string_to_int64(length, 0, INT64_MAX, &size))
        return unexpected(&reply, err);
    info->size = (uint64_t)size;
    return read_info(&reply, info, err);
}

/* One PUT; *status is 501 when the server knows no conditions. */
static bool put_once(struct bucket *bucket, const struct store_put *put, bool if_absent,
                     long *status, struct error *err)
{
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    struct bucket_call call = {
        .method = "PUT",
        .key = put->key,
        .query = "",
        .body = put->data.data != NULL ? put->data : bytes_from_str(""),
        .deadline_ms = put->deadline_ms,
    };

    bucket_call_header(&call, "content-type", put->content_type);
    if (if_absent)
        bucket_call_header(&call, bucket->dialect->if_absent.name,
                           bucket->dialect->if_absent.value);
    if (!bucket_send(bucket, &call, &reply, err))
        return false;
    *status = reply.status;
    return reply.status < 300 || (if_absent && (reply.status == 412 || reply.status == 501)) ||
           unexpected(&reply, err);
}

/* Without conditions: look, then put; of two writers at once the last one wins. */
static bool put_if_missing(struct bucket *bucket, const struct store_put *put, bool *existed,
                           struct error *err)
{
    struct store_info info = {0};
    struct error why = {0};
    long status;

    *existed = bucket_head(bucket, put->key, put->deadline_ms, &info, &why);
    if (*existed)
        return true;
    if (why.code != ERROR_NOT_FOUND) {
        *err = why;
        return false;
    }
    return put_once(bucket, put, false, &status, err);
}

static bool bucket_put(void *state, const struct store_put *put, bool *existed, struct error *err)
{
    struct bucket *bucket = state;
    long status;

    if (put->if_absent && atomic_load(&bucket->unconditional))
        return put_if_missing(bucket, put, existed, err);
    if (!put_once(bucket, put, put->if_absent, &status, err))
        return false;
    if (status == 501) {
        atomic_store(&bucket->unconditional, true);
        return put_if_missing(bucket, put, existed, err);
    }
    *existed = status == 412;
    return true;
}

static bool bucket_remove(void *state, const char *key, int64_t deadline_ms, struct error *err)
{
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    struct bucket_call call = {
        .method = "DELETE", .key = key, .query = "", .deadline_ms = deadline_ms};

    return bucket_send(state, &call, &reply, err) &&
           (reply.status < 300 || reply.status == 404 || unexpected(&reply, err));
}

int64_t bucket_http_date(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);

    return end != NULL && *end == '\0' ? (int64_t)timegm(&tm) : -1;
}

bool bucket_refused_for_time(struct bucket *bucket, const struct bucket_attempt *attempt,
                             const struct http_reply *reply, const char *code)
{
    char text[64];
    int64_t theirs_s =
        http_reply_header(reply, "date", text, sizeof(text)) ? bucket_http_date(text) : -1;
    int64_t skew_s = theirs_s - clock_wall_ms() / 1000;
    int64_t off_s = skew_s - attempt->skew_s; /* others may have set ours right meanwhile */

    if (theirs_s < 0 ||
        (strcmp(code, "RequestTimeTooSkewed") != 0 && off_s < SKEW_MIN_S && off_s > -SKEW_MIN_S))
        return false;
    atomic_store(&bucket->skew_s, skew_s);
    return true;
}

const struct store_driver store_bucket_driver = {
    .put = bucket_put,
    .get = bucket_get,
    .head = bucket_head,
    .remove = bucket_remove,
    .list = bucket_list,
    .free = bucket_free,
};
