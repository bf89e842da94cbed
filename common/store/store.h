/* Object storage: one bucket, keys to bytes. The interface is what S3, GCS and a directory can all
 * do; the drivers are files of their own (store/file/file.c, …).
 *
 * Keys are raw UTF-8, at most STORE_KEY_MAX bytes, with no control characters and no "." or ".."
 * segments (store_key_check). A store opened on `bucket/prefix` holds only keys that start with its
 * prefix: any other key is ERROR_FORBIDDEN, before any I/O.
 *
 * Errors of every call: ERROR_NOT_FOUND, ERROR_FORBIDDEN (outside the prefix),
 * ERROR_BAD_REQUEST (key), ERROR_TOO_LARGE (over max_bytes), ERROR_RANGE,
 * ERROR_DEADLINE, ERROR_UNAVAILABLE (passing: full, read-only, down; or what the operator mends:
 * credentials refused, bucket missing). Nothing is ever half-written.
 *
 * Thread-safe: any number of calls at once on one store. `deadline_ms` is on the monotonic clock.
 */
#pragma once

#include "store/object.h"

struct store;

/* Durable when true is returned (fsync'ed, or confirmed by the server). `existed` may be NULL. */
bool store_put(struct store *store, const struct store_put *put, bool *existed,
               struct error *err) NODISCARD;
/* *data is appended to (give it the maximum you want, or 0 to let the call set max_bytes) and is
 * the caller's (buffer_done); `info` may be NULL. */
bool store_get(struct store *store, const struct store_get *get, struct buffer *data,
               struct store_info *info, struct error *err) NODISCARD;
/* `info` may be NULL. */
bool store_head(struct store *store, const char *key, int64_t deadline_ms, struct store_info *info,
                struct error *err) NODISCARD;
/* Deleting what is not there succeeds. */
bool store_delete(struct store *store, const char *key, int64_t deadline_ms,
                  struct error *err) NODISCARD;

/* Encrypt a sealed object's key for the newest of SEAL_KEYS_FILE; *changed: it was for another. The
 * object is written again, its chunks as they are. */
bool store_reseal(struct store *store, const char *key, int64_t deadline_ms, bool *changed,
                  struct error *err) NODISCARD;

bool store_list(struct store *store, const char *prefix, int64_t deadline_ms, store_list_fn fn,
                void *ctx, struct error *err) NODISCARD;

void store_free(struct store *store);

/* "" or "some/prefix/": what every key of this store starts with. Borrowed. */
const char *store_prefix(const struct store *store);

/* The object's URI ("file:///real/root/key", "s3://bucket/key", …) into out. */
bool store_uri(const struct store *store, const char *key, char out[STORE_URI_MAX],
               struct error *err) NODISCARD;
/* The key of a URI of this store. ERROR_BAD_REQUEST for a malformed URI or key, ERROR_FORBIDDEN for
 * another scheme, bucket, root or prefix. */
bool store_key_of_uri(const struct store *store, const char *uri, char out[STORE_KEY_MAX + 1],
                      struct error *err) NODISCARD;

/* ERROR_BAD_REQUEST unless `key` is valid as described at the top. A directory refuses more (empty
 * segments, segments over 255 bytes, more than 64 segments, ".tmp/"): its calls say so. */
bool store_key_check(const char *key, struct error *err) NODISCARD;

/* Consecutive failures of the passing kind since the last answer (NOT_FOUND is one), and when the
 * last outcome of any call was known (monotonic; 0 before the first). Reads and writes are counted
 * apart and the worse count is told, since on a full disk every read succeeds; failed writes are
 * forgotten once a read succeeds 5 s after the last of them, so that they are tried again. Never
 * blocks. */
void store_health(const struct store *store, unsigned *failures, int64_t *known_ms);

/* Call `mistake` for everything that keeps these options from working. Looks at no disk, server or
 * endpoint. False if there was anything. */
bool store_check(const struct store_options *options, store_mistake_fn mistake,
                 void *ctx) NODISCARD;
/* ERROR_CONFIG for what cannot work. file: the directory is created if it is missing; nothing is
 * asked of a server yet. */
struct store *store_open(const struct store_options *options, struct error *err) NODISCARD;
