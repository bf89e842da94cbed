/* The STORAGE_URL that opens a store. */
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/driver.h"
#include "store/store.h"

#include <limits.h>
#include <string.h>

enum { BUCKET_NAME_MIN = 3, BUCKET_NAME_MAX = 222 };

/* "file:///dir", "file:/dir" or "file:dir", percent-encoded like any URL. */
static bool directory_of_url(const char *rest, struct buffer *path)
{
    struct error ignored = {0};

    if (string_starts_with(rest, "//"))
        rest += rest[2] == '/' ? 2 : 0;
    return *rest != '\0' && !string_starts_with(rest, "//") &&
           string_percent_decode(rest, path, &ignored) && buffer_append(path, "", 1, &ignored);
}

/* What S3 and GCS have in common; it needs no encoding in a URL. */
static bool is_bucket_name(const char *name)
{
    size_t len = strlen(name);

    return len >= BUCKET_NAME_MIN && len <= BUCKET_NAME_MAX &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._")] == '\0' &&
           strchr("-._", name[0]) == NULL && strstr(name, "..") == NULL;
}

/* The bucket of "s3://bucket" or "s3://bucket/prefix", and the prefix as keys have it: raw, no
 * encoding. */
static void split_bucket(const char *url, char **bucket, char **prefix)
{
    const char *rest = url + strlen("s3://");
    size_t len = strcspn(rest, "/");
    const char *after = rest[len] == '/' ? rest + len + 1 : "";
    bool slash = *after == '\0' || string_ends_with(after, "/");

    *bucket = xasprintf("%.*s", (int)len, rest);
    *prefix = xasprintf("%s%s", after, slash ? "" : "/");
}

static bool check_bucket(const struct store_options *options, bool s3, store_mistake_fn mistake,
                         void *ctx)
{
    CLEANUP_FREE char *bucket = NULL;
    CLEANUP_FREE char *prefix = NULL;
    struct error why = {0};
    bool ok = true;

    split_bucket(options->url, &bucket, &prefix);
    CLEANUP_FREE char *probe = xasprintf("%s-", prefix);
    if (!is_bucket_name(bucket))
        ok = mistake(ctx, "not a bucket's name: 3 to 222 of a-z, 0-9, '-', '.', '_', beginning "
                          "with a letter or digit");
    if (!store_key_check(probe, &why)) {
        error_wrap(&why, "no prefix of keys");
        ok = mistake(ctx, why.message);
    }
    if (!s3)
        return ok;
    if (*options->s3.access_key == '\0' || *options->s3.secret_key == '\0')
        ok = mistake(ctx, "s3:// needs both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    return (options->s3.signature == STORE_S3_V2 ? store_libs3_check(options, bucket, mistake, ctx)
                                                 : store_s3_check(options, mistake, ctx)) &&
           ok;
}

/* With "" for every NULL. */
static struct store_options complete(const struct store_options *options)
{
    struct store_options ret = *options;
    const char **const texts[] = {
        &ret.url,           &ret.seal_keys_file, &ret.s3.endpoint,      &ret.s3.region,
        &ret.s3.access_key, &ret.s3.secret_key,  &ret.s3.session_token, &ret.gcs.endpoint};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (*texts[i] == NULL)
            *texts[i] = "";
    return ret;
}

bool store_check(const struct store_options *options, store_mistake_fn mistake, void *ctx)
{
    const struct store_options own = complete(options);
    CLEANUP(buffer_done) struct buffer path = BUFFER_MAX(PATH_MAX);
    bool s3 = string_starts_with(own.url, "s3://");

    if (s3 || string_starts_with(own.url, "gs://"))
        return check_bucket(&own, s3, mistake, ctx);
    if (!string_starts_with(own.url, "file:"))
        return mistake(ctx, "not a file:, s3: or gs: URL");
    return directory_of_url(own.url + strlen("file:"), &path) ||
           mistake(ctx, "neither file:///dir nor file:dir");
}

bool store_first_mistake(void *ctx, const char *text)
{
    struct error *err = ctx;

    return err->code == ERROR_NONE ? error_set(err, ERROR_CONFIG, "%s", text) : false;
}

static bool open_directory(struct store *store, const char *url, struct error *err)
{
    CLEANUP(buffer_done) struct buffer path = BUFFER_MAX(PATH_MAX);
    /* object URIs must fit STORE_URI_MAX whatever the key */
    CLEANUP(buffer_done) struct buffer encoded = BUFFER_MAX(4096 - sizeof("file:///"));

    store->scheme = STORE_SCHEME_FILE;
    if (!directory_of_url(url + strlen("file:"), &path))
        return error_oom(err); /* all else is checked */
    store->state = store_file_open((const char *)path.data, &store->place, err);
    if (store->state == NULL)
        return false;
    store->driver = &store_file_driver;
    store->prefix = xstrdup("");
    return string_percent_encode(store->place, store_path_safe, &encoded, err) ||
           error_set(err, ERROR_CONFIG, "the storage directory's path is too long");
}

static bool open_bucket(struct store *store, const struct store_options *options, struct error *err)
{
    split_bucket(options->url, &store->place, &store->prefix);
    store->scheme = string_starts_with(options->url, "s3://") ? STORE_SCHEME_S3 : STORE_SCHEME_GS;
    if (store->scheme == STORE_SCHEME_GS)
        store->state = store_gcs_open(options, store->place, err);
    else if (options->s3.signature == STORE_S3_V2)
        store->state = store_libs3_open(options, store->place, err);
    else
        store->state = store_s3_open(options, store->place, err);
    store->driver = store->state != NULL ? &store_bucket_driver : NULL;
    return store->state != NULL;
}

struct store *store_open(const struct store_options *options, struct error *err)
{
    const struct store_options own = complete(options);
    struct error first = {0};

    if (!store_check(&own, store_first_mistake, &first)) {
        *err = first;
        return NULL;
    }
    struct store *store = xcalloc(1, sizeof(*store));
    if ((string_starts_with(own.url, "file:") ? open_directory(store, own.url, err)
                                              : open_bucket(store, &own, err)) &&
        store_sealed_wrap(store, own.seal_keys_file, err))
        return store;
    store_free(store);
    return NULL;
}
