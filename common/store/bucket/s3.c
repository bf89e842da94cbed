/* Amazon S3's REST API with Signature Version 4.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html */
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/bucket/bucket.h"

#include <string.h>

enum { AUTHORIZATION_MAX = 4096 };

static struct sigv4_key key_of(const struct store_options *options)
{
    return (struct sigv4_key){
        .access_key = options->s3.access_key,
        .secret_key = options->s3.secret_key,
        .session_token = options->s3.session_token,
        .region = options->s3.region,
        .service = "s3",
    };
}

static bool prepare(struct bucket *bucket, struct bucket_attempt *attempt, struct error *err)
{
    const struct bucket_call *call = attempt->call;
    const struct sigv4_key key = key_of(&bucket->options);
    char sha256[SHA256_HEX_LEN + 1], date[SIGV4_DATE_LEN];
    CLEANUP(buffer_done) struct buffer authorization = BUFFER_MAX(AUTHORIZATION_MAX);
    const int64_t now_s = clock_wall_ms() / 1000 + attempt->skew_s;

    if (!string_sha256_hex(&call->body, 1, sha256, err))
        return false;
    const struct sigv4_request request = {
        .method = call->method,
        .host = bucket->host,
        .path = attempt->path,
        .query = call->query,
        .headers = call->headers,
        .header_count = call->header_count,
        .payload_sha256 = sha256,
        .time_s = now_s,
    };
    sigv4_date(now_s, date);
    if (!sigv4_authorization(&key, &request, &authorization, err))
        return false;
    bucket_attempt_header(attempt, xasprintf("Authorization: %.*s", (int)authorization.len,
                                             (const char *)authorization.data));
    bucket_attempt_header(attempt, xasprintf("x-amz-date: %s", date));
    bucket_attempt_header(attempt, xasprintf("x-amz-content-sha256: %s", sha256));
    if (*key.session_token != '\0')
        bucket_attempt_header(attempt, xasprintf("x-amz-security-token: %s", key.session_token));
    return true;
}

static const struct bucket_dialect s3_dialect = {
    .if_absent = {"if-none-match", "*"},
    .prepare = prepare,
    .refused = bucket_refused_for_time,
};

/* Credentials and region that cannot be signed with are found at start, not by every request. */
bool store_s3_check(const struct store_options *options, store_mistake_fn mistake, void *ctx)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(AUTHORIZATION_MAX);
    const struct sigv4_key key = key_of(options);
    const struct sigv4_request request = {
        .method = "GET",
        .host = options->s3.endpoint,
        .path = "/",
        .query = "",
        .payload_sha256 = "UNSIGNED-PAYLOAD",
    };
    struct error why = {0};

    if (sigv4_authorization(&key, &request, &out, &why))
        return true;
    error_wrap(&why, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY");
    return mistake(ctx, why.message);
}

void *store_s3_open(const struct store_options *options, const char *name, struct error *err)
{
    CLEANUP_FREE char *aws = xasprintf("https://s3.%s.amazonaws.com", options->s3.region);
    bool own = *options->s3.endpoint != '\0';
    struct bucket *bucket = bucket_new(&s3_dialect, options, own ? options->s3.endpoint : aws, name,
                                       options->s3.virtual_addressing, err);

    if (bucket == NULL)
        error_wrap(err, "S3_ENDPOINT");
    return bucket;
}
