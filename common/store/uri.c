/* Object URIs. */
#include "base/strings.h"
#include "store/driver.h"
#include "store/store.h"

#include <string.h>

const char *const store_scheme_names[] = {
    [STORE_SCHEME_FILE] = "file",
    [STORE_SCHEME_S3] = "s3",
    [STORE_SCHEME_GS] = "gs",
};

/* Characters of an RFC 3986 path that need no encoding, besides the unreserved ones. */
const char store_path_safe[] = "/!$&'()*+,;=:@";

bool store_uri(const struct store *store, const char *key, char out[STORE_URI_MAX],
               struct error *err)
{
    CLEANUP(buffer_done) struct buffer uri = BUFFER_MAX(STORE_URI_MAX - 1);
    bool encode = store->scheme == STORE_SCHEME_FILE;

    if (!store_key_allowed(store, key, err) ||
        !buffer_printf(&uri, err, "%s://", store_scheme_names[store->scheme]) ||
        !(encode ? string_percent_encode(store->place, store_path_safe, &uri, err)
                 : buffer_append_str(&uri, store->place, err)) ||
        !buffer_append(&uri, "/", 1, err) ||
        !(encode ? string_percent_encode(key, store_path_safe, &uri, err)
                 : buffer_append_str(&uri, key, err)))
        return false;
    memcpy(out, uri.data, uri.len);
    out[uri.len] = '\0';
    return true;
}

static bool bad_uri(struct error *err)
{
    return error_set(err, ERROR_BAD_REQUEST, "not a valid object URI");
}

static bool foreign(struct error *err)
{
    return error_set(err, ERROR_FORBIDDEN, "the object is outside this service's storage");
}

/* The decoded absolute path of what follows "file:" (RFC 8089: "/path", "///path" or
 * "//localhost/path"). */
static bool decode_file_path(const char *rest, struct buffer *path, struct error *err)
{
    if (string_starts_with(rest, "//")) {
        size_t host_len = strcspn(rest + 2, "/");
        if (host_len != 0 && strncasecmp(rest + 2, "localhost/", host_len + 1) != 0)
            return foreign(err);
        rest += 2 + host_len;
    }
    if (*rest != '/' || rest[strcspn(rest, "?#")] != '\0')
        return bad_uri(err);
    return string_percent_decode(rest, path, err) && buffer_append(path, "", 1, err);
}

static bool has_dot_segment(const char *path)
{
    return strstr(path, "/./") != NULL || strstr(path, "/../") != NULL ||
           string_ends_with(path, "/.") || string_ends_with(path, "/..");
}

/* Malformed comes before foreign: a '..' is never a question of where it leads. */
static bool key_of_file_uri(const struct store *store, const char *rest, const char **key,
                            struct buffer *path, struct error *err)
{
    if (!decode_file_path(rest, path, err))
        return false;
    const char *decoded = (const char *)path->data;
    if (has_dot_segment(decoded))
        return error_set(err, ERROR_BAD_REQUEST, "a '.' or '..' segment in the object URI");
    size_t root_len = strlen(store->place);
    if (strncmp(decoded, store->place, root_len) != 0 || decoded[root_len] != '/')
        return foreign(err);
    *key = decoded + root_len + 1;
    return store_key_check(*key, err);
}

static bool key_of_bucket_uri(const struct store *store, const char *rest, const char **key,
                              struct error *err)
{
    if (!string_starts_with(rest, "//"))
        return bad_uri(err);
    const char *bucket = rest + 2;
    size_t len = strcspn(bucket, "/");
    if (len == 0 || bucket[len] == '\0')
        return bad_uri(err);
    *key = bucket + len + 1;
    if (!store_key_check(*key, err))
        return false;
    return (len == strlen(store->place) && strncmp(bucket, store->place, len) == 0) || foreign(err);
}

bool store_key_of_uri(const struct store *store, const char *uri, char out[STORE_KEY_MAX + 1],
                      struct error *err)
{
    CLEANUP(buffer_done) struct buffer path = BUFFER_MAX(STORE_URI_MAX);
    const char *scheme = store_scheme_names[store->scheme];
    const char *key = "";
    size_t len = strcspn(uri, ":/?#");

    if (len == 0 || uri[len] != ':' || strnlen(uri, STORE_URI_MAX) == STORE_URI_MAX)
        return bad_uri(err);
    if (len != strlen(scheme) || strncasecmp(uri, scheme, len) != 0)
        return foreign(err);
    if (!(store->scheme == STORE_SCHEME_FILE
              ? key_of_file_uri(store, uri + len + 1, &key, &path, err)
              : key_of_bucket_uri(store, uri + len + 1, &key, err)) ||
        !store_key_allowed(store, key, err))
        return false;
    memcpy(out, key, strlen(key) + 1);
    return true;
}
