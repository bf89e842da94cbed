/* What a storage driver implements, and what store.c and uri.c know of a store. Private to
 * common/store and its tests; everybody else uses store.h.
 *
 * store.c calls a driver only with checked arguments: a valid key inside the prefix, a valid
 * content type, a deadline that has not passed, and never a NULL `existed`, `info` or err. While a
 * call waits it follows the options' `cut`. On failure a driver may leave *data longer and *info
 * filled: store.c puts them back. */
#pragma once

#include "store/object.h"

#include <stdatomic.h>

struct store_driver {
    bool (*put)(void *state, const struct store_put *put, bool *existed, struct error *err);
    bool (*get)(void *state, const struct store_get *get, struct buffer *data,
                struct store_info *info, struct error *err);
    bool (*head)(void *state, const char *key, int64_t deadline_ms, struct store_info *info,
                 struct error *err);
    bool (*remove)(void *state, const char *key, int64_t deadline_ms, struct error *err);
    bool (*list)(void *state, const char *prefix, int64_t deadline_ms, store_list_fn fn, void *ctx,
                 struct error *err);
    void (*free)(void *state);
};

enum store_scheme { STORE_SCHEME_FILE, STORE_SCHEME_S3, STORE_SCHEME_GS };

struct store {
    const struct store_driver *driver;
    void *state;
    enum store_scheme scheme;
    char *place;  /* file: the real path of the root, "" for "/"; otherwise the bucket */
    char *prefix; /* "" or "some/prefix/" */
    /* Reads and writes apart: on a full disk every read succeeds. */
    struct store_outcome {
        atomic_uint failures;     /* in a row */
        _Atomic int64_t known_ms; /* when there was the last outcome; 0 before the first */
    } reads, writes;
};

extern const char *const store_scheme_names[]; /* by enum store_scheme */
extern const char store_path_safe[]; /* characters of an RFC 3986 path that need no encoding,
                                        besides the unreserved ones */

/* store_key_check, and ERROR_FORBIDDEN outside the store's prefix. */
bool store_key_allowed(const struct store *store, const char *key, struct error *err) NODISCARD;
/* Printable ASCII of 1..max bytes: what a header can hold. */
bool store_is_printable(const char *s, size_t max);
/* ERROR_DEADLINE once the deadline has passed. */
bool store_in_time(int64_t deadline_ms, struct error *err) NODISCARD;

/* A directory as a bucket (file.c). *root is the real path, the caller's. NULL: ERROR_CONFIG. */
extern const struct store_driver store_file_driver;
void *store_file_open(const char *path, char **root, struct error *err) NODISCARD;

/* A store_mistake_fn: keeps the first in a struct error that was zeroed. */
bool store_first_mistake(void *err, const char *text);
/* What a store_check is for. */
bool store_s3_check(const struct store_options *options, store_mistake_fn mistake,
                    void *ctx) NODISCARD;
bool store_libs3_check(const struct store_options *options, const char *bucket,
                       store_mistake_fn mistake, void *ctx) NODISCARD;

/* A bucket (bucket.c), by S3's REST API with SigV4 (s3.c) or Google's XML API (gcs.c), or S3's with
 * SigV2 (libs3.c). The options have been checked; the bucket's name is borrowed like them.
 * NULL: ERROR_CONFIG. */
extern const struct store_driver store_bucket_driver;
void *store_s3_open(const struct store_options *options, const char *bucket,
                    struct error *err) NODISCARD;
void *store_gcs_open(const struct store_options *options, const char *bucket,
                     struct error *err) NODISCARD;
void *store_libs3_open(const struct store_options *options, const char *bucket,
                       struct error *err) NODISCARD;

/* Put in front of a store's driver the one that seals (sealed/sealed.c); `keys_file` may be "".
 * ERROR_CONFIG. */
bool store_sealed_wrap(struct store *store, const char *keys_file, struct error *err) NODISCARD;
