/* Google Cloud Storage's XML API with a Bearer token: S3's shape in path style.
 * https://cloud.google.com/storage/docs/xml-api/overview */
#include "base/strings.h"
#include "base/xmalloc.h"
#include "client/http_client.h"
#include "store/bucket/bucket.h"

#include <openssl/evp.h>
#include <string.h>

static const char bearer[] = "Authorization: Bearer ";

/* What S3 gets from x-amz-content-sha256: the server refuses bytes that changed on the way. */
static bool add_md5(struct bucket_attempt *attempt, struct error *err)
{
    const struct bytes body = attempt->call->body;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(64);

    if (EVP_Digest(body.data, body.len, digest, &len, EVP_md5(), NULL) != 1)
        return error_set(err, ERROR_INTERNAL, "MD5 is not available");
    if (!string_base64_encode(bytes_of(digest, len), &text, err))
        return false;
    bucket_attempt_header(attempt,
                          xasprintf("Content-MD5: %.*s", (int)text.len, (const char *)text.data));
    return true;
}

static bool prepare(struct bucket *bucket, struct bucket_attempt *attempt, struct error *err)
{
    struct bearer *google = bucket->options.gcs.bearer;
    char token[BEARER_MAX];

    if (strcmp(attempt->call->method, "PUT") == 0 && !add_md5(attempt, err))
        return false;
    if (google == NULL)
        return true;
    if (!google->get(google, attempt->call->deadline_ms, token, err))
        return false;
    bucket_attempt_header(attempt, xasprintf("%s%s", bearer, token));
    return true;
}

/* A token may be withdrawn before it expires: once more with a new one. */
static bool refused(struct bucket *bucket, const struct bucket_attempt *attempt,
                    const struct http_reply *reply, const char *code)
{
    struct bearer *google = bucket->options.gcs.bearer;

    (void)code;
    if (reply->status != 401 || google == NULL)
        return false;
    for (size_t i = 0; i < attempt->line_count; i++)
        if (string_starts_with(attempt->lines[i], bearer))
            google->expired(google, attempt->lines[i] + strlen(bearer));
    return true;
}

static const struct bucket_dialect gcs_dialect = {
    .if_absent = {"x-goog-if-generation-match", "0"},
    .prepare = prepare,
    .refused = refused,
};

void *store_gcs_open(const struct store_options *options, const char *name, struct error *err)
{
    const char *own = options->gcs.endpoint;
    struct bucket *bucket =
        bucket_new(&gcs_dialect, options, *own != '\0' ? own : "https://storage.googleapis.com",
                   name, false, err);

    if (bucket == NULL)
        error_wrap(err, "GCS_ENDPOINT");
    return bucket;
}
