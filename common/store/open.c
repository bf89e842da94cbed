/* The STORAGE_URL that opens a store. */
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/driver.h"
#include "store/store.h"

#include <limits.h>
#include <string.h>

enum { BUCKET_NAME_MIN = 3, BUCKET_NAME_MAX = 222 };

/* "file:///dir", "file:/dir" or "file:dir", percent-encoded like any URL. */
static bool directory_of_url(const char *rest, struct buffer *path, struct error *err)
{
    struct error ignored = {0};

    if (string_starts_with(rest, "//"))
        rest += rest[2] == '/' ? 2 : 0;
    if (*rest == '\0' || string_starts_with(rest, "//") ||
        !string_percent_decode(rest, path, &ignored) || !buffer_append(path, "", 1, &ignored))
        return error_set(err, ERROR_CONFIG, "neither file:///dir nor file:dir");
    return true;
}

static bool open_directory(struct store *store, const char *rest, struct error *err)
{
    CLEANUP(buffer_done) struct buffer path = BUFFER_MAX(PATH_MAX);
    /* object URIs must fit STORE_URI_MAX whatever the key */
    CLEANUP(buffer_done) struct buffer encoded = BUFFER_MAX(4096 - sizeof("file:///"));

    store->scheme = STORE_SCHEME_FILE;
    if (!directory_of_url(rest, &path, err))
        return false;
    store->state = store_file_open((const char *)path.data, &store->place, err);
    if (store->state == NULL)
        return false;
    store->driver = &store_file_driver;
    store->prefix = xstrdup("");
    return string_percent_encode(store->place, store_path_safe, &encoded, err) ||
           error_set(err, ERROR_CONFIG, "the storage directory's path is too long");
}

/* What S3 and GCS have in common; it needs no encoding in a URL. */
static bool check_bucket_name(const char *name, struct error *err)
{
    size_t len = strlen(name);

    if (len < BUCKET_NAME_MIN || len > BUCKET_NAME_MAX ||
        name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._")] != '\0' ||
        strchr("-._", name[0]) != NULL || strstr(name, "..") != NULL)
        return error_set(err, ERROR_CONFIG,
                         "not a bucket's name: 3 to 222 of a-z, 0-9, '-', '.', '_', beginning with "
                         "a letter or digit");
    return true;
}

/* "bucket" or "bucket/prefix", the prefix as keys have it: raw, no encoding. */
static bool split_bucket(struct store *store, const char *rest, struct error *err)
{
    size_t len = strcspn(rest, "/");
    const char *prefix = rest[len] == '/' ? rest + len + 1 : "";
    bool slash = *prefix == '\0' || string_ends_with(prefix, "/");
    char probe[STORE_KEY_MAX + 1];
    struct error why;

    store->place = xasprintf("%.*s", (int)len, rest);
    store->prefix = xasprintf("%s%s", prefix, slash ? "" : "/");
    if (!check_bucket_name(store->place, err))
        return false;
    if (snprintf(probe, sizeof(probe), "%s-", store->prefix) >= (int)sizeof(probe))
        return error_set(err, ERROR_CONFIG, "too long a prefix");
    return store_key_check(probe, &why) ||
           error_set(err, ERROR_CONFIG, "no prefix of keys: %s", why.message);
}

static bool open_bucket(struct store *store, const struct store_options *options, struct error *err)
{
    if (!split_bucket(store, options->url + strlen("s3://"), err))
        return false;
    if (store->scheme == STORE_SCHEME_S3 &&
        (*options->s3.access_key == '\0' || *options->s3.secret_key == '\0'))
        return error_set(err, ERROR_CONFIG,
                         "s3:// needs both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    if (store->scheme == STORE_SCHEME_GS)
        store->state = store_gcs_open(options, store->place, err);
    else if (options->s3.signature == STORE_S3_V2)
        store->state = store_libs3_open(options, store->place, err);
    else
        store->state = store_s3_open(options, store->place, err);
    if (store->state == NULL)
        return false;
    store->driver = &store_bucket_driver;
    return true;
}

static bool open_url(struct store *store, const struct store_options *options, struct error *err)
{
    if (string_starts_with(options->url, "file:"))
        return open_directory(store, options->url + strlen("file:"), err);
    store->scheme = string_starts_with(options->url, "s3://") ? STORE_SCHEME_S3 : STORE_SCHEME_GS;
    if (store->scheme == STORE_SCHEME_GS && !string_starts_with(options->url, "gs://"))
        return error_set(err, ERROR_CONFIG, "not a file:, s3: or gs: URL");
    return open_bucket(store, options, err);
}

static void set_text(const char **text)
{
    if (*text == NULL)
        *text = "";
}

/* With "" for every NULL. */
static struct store_options complete(const struct store_options *options)
{
    struct store_options ret = *options;

    set_text(&ret.url);
    set_text(&ret.s3.endpoint);
    set_text(&ret.s3.region);
    set_text(&ret.s3.access_key);
    set_text(&ret.s3.secret_key);
    set_text(&ret.s3.session_token);
    set_text(&ret.gcs.endpoint);
    return ret;
}

struct store *store_open(const struct store_options *options, struct error *err)
{
    const struct store_options own = complete(options);
    struct store *store = xcalloc(1, sizeof(*store));

    if (open_url(store, &own, err))
        return store;
    store_free(store);
    return NULL;
}
