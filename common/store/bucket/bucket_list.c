/* Listing a bucket: ListObjectsV2, page by page. */
#include "base/strings.h"
#include "store/bucket/bucket.h"
#include "store/bucket/xml.h"
#include "store/store.h"

#include <string.h>

enum {
    TOKEN_MAX = 4096,
    KEY_TEXT_MAX = 3 * STORE_KEY_MAX + 1,
};

/* Each page is read twice: AWS says before the entries that their keys are encoded, MinIO behind
 * them. */
struct page {
    bool entries; /* the second time */
    store_list_fn fn;
    void *ctx;
    const char *prefix;
    bool url_encoded; /* <EncodingType>url</EncodingType>: XML cannot hold every key */
    bool truncated;
    bool stopped; /* by fn */
    char token[TOKEN_MAX];
    char key[KEY_TEXT_MAX];
    int64_t size;
};

/* "+" is a space, as in forms: so S3 and MinIO encode keys in listings. */
static bool decode_key(const struct page *page, char out[STORE_KEY_MAX + 1])
{
    char text[KEY_TEXT_MAX];
    CLEANUP(buffer_done) struct buffer decoded = BUFFER_MAX(STORE_KEY_MAX + 1);
    struct error ignored;
    const char *key = page->key;

    memcpy(text, page->key, strlen(page->key) + 1);
    if (page->url_encoded) {
        for (char *p = text; *p != '\0'; p++)
            *p = (char)(*p == '+' ? ' ' : *p);
        key = string_percent_decode(text, &decoded, &ignored) ? buffer_cstr(&decoded, &ignored)
                                                              : NULL;
    }
    if (key == NULL || !store_key_check(key, &ignored) || !string_starts_with(key, page->prefix))
        return false;
    memcpy(out, key, strlen(key) + 1);
    return true;
}

static bool copy(char *out, size_t size, const char *text, struct error *err)
{
    if (strlen(text) >= size)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the object storage lists too long a key or token");
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool visit_entry(struct page *page, const char *path, const char *text, struct error *err)
{
    char key[STORE_KEY_MAX + 1];

    if (strcmp(path, "Contents/Key") == 0)
        return copy(page->key, sizeof(page->key), text, err);
    if (strcmp(path, "Contents/Size") == 0)
        return string_to_int64(text, 0, INT64_MAX, &page->size) ||
               error_set(err, ERROR_UNAVAILABLE, "the object storage lists a malformed size");
    if (strcmp(path, "Contents") == 0 && decode_key(page, key)) /* others are not ours */
        page->stopped = !page->fn(page->ctx, key, (uint64_t)page->size);
    return !page->stopped;
}

static bool visit(void *ctx, const char *path, const char *text, struct error *err)
{
    struct page *page = ctx;
    static const char root[] = "ListBucketResult/";

    if (!string_starts_with(path, root))
        return strcmp(path, "ListBucketResult") == 0 ||
               error_set(err, ERROR_UNAVAILABLE, "the object storage answers no listing");
    path += strlen(root);
    if (page->entries)
        return visit_entry(page, path, text, err);
    if (strcmp(path, "EncodingType") == 0)
        page->url_encoded = strcmp(text, "url") == 0;
    else if (strcmp(path, "IsTruncated") == 0)
        page->truncated = strcmp(text, "true") == 0;
    else if (strcmp(path, "NextContinuationToken") == 0)
        return copy(page->token, sizeof(page->token), text, err);
    return true;
}

/* In the order of their names: S3 signs them so, and all the same to others. */
static bool query_of(const char *prefix, const char *token, struct buffer *query, struct error *err)
{
    return (*token == '\0' ||
            (buffer_append_str(query, "continuation-token=", err) &&
             string_percent_encode(token, "", query, err) && buffer_append_str(query, "&", err))) &&
           buffer_append_str(query, "encoding-type=url&list-type=2&prefix=", err) &&
           string_percent_encode(prefix, "", query, err);
}

static bool list_page(struct bucket *bucket, struct page *page, int64_t deadline_ms,
                      struct error *err)
{
    CLEANUP(buffer_done) struct buffer query = BUFFER_MAX(128 + 3 * (TOKEN_MAX + STORE_KEY_MAX));
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    struct error why = {0};

    if (!query_of(page->prefix, page->token, &query, err))
        return false;
    struct bucket_call call = {
        .method = "GET",
        .query = buffer_cstr(&query, err),
        .max_reply_bytes = BUCKET_LISTING_MAX,
        .deadline_ms = deadline_ms,
    };
    if (call.query == NULL || !bucket_send(bucket, &call, &reply, err))
        return false;
    if (reply.status != 200)
        return error_set(err, ERROR_UNAVAILABLE, "the object storage answers a listing with %ld",
                         reply.status);
    page->truncated = page->url_encoded = page->entries = false;
    page->token[0] = '\0';
    bool ok = xml_read(buffer_view(&reply.body), visit, page, &why);
    page->entries = true;
    ok = ok && (xml_read(buffer_view(&reply.body), visit, page, &why) || page->stopped);
    if (!ok)
        *err = why;
    return ok;
}

bool bucket_list(void *state, const char *prefix, int64_t deadline_ms, store_list_fn fn, void *ctx,
                 struct error *err)
{
    struct page page = {.fn = fn, .ctx = ctx, .prefix = prefix};
    char last[TOKEN_MAX];

    do {
        memcpy(last, page.token, sizeof(last));
        if (!store_in_time(deadline_ms, err) || !list_page(state, &page, deadline_ms, err))
            return false;
        if (page.truncated && !page.stopped &&
            (*page.token == '\0' || strcmp(page.token, last) == 0))
            return error_set(err, ERROR_UNAVAILABLE,
                             "the object storage cuts its listing and does not say how to go on");
    } while (page.truncated && !page.stopped);
    return true;
}
