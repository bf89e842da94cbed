/* The parts of the file driver (file.c, file_put.c, file_list.c). Private to them.
 *
 * Everything is reached from the root, segment by segment, without following symbolic
 * links: whatever is put into the directory, no call leaves it. */
#pragma once

#include "store/driver.h"

#include <sys/stat.h>

struct file_store {
    char *path; /* of the root, real; opened anew by every call: a directory that was removed and
                   made again, or mounted over, is found again */
};

enum {
    FILE_CHUNK = 4 << 20, /* bytes between two looks at the clock */
    FILE_DEPTH_MAX = 64,  /* segments of a key: a listing holds that many descriptors */
};

extern const char file_temporaries[]; /* ".tmp" */

/* Set *err from errno: ERROR_BAD_REQUEST for what the key causes, else ERROR_UNAVAILABLE. */
bool file_error(struct error *err, const char *operation);

/* Open <root>/.tmp, made if missing: what is being written, renamed or linked when complete. */
bool file_open_temporaries(const struct file_store *fs, int *ret, struct error *err) NODISCARD;

/* Open the directory that holds `key`; *leaf is the key's last segment. With `create`, missing
 * directories are made, and all are durable when this returns.
 * ERROR_NOT_FOUND, or ERROR_BAD_REQUEST for a key that a directory cannot hold. */
bool file_open_parent(const struct file_store *fs, const char *key, bool create, int *parent,
                      const char **leaf, struct error *err) NODISCARD;

/* In no order: sorting would hold a whole directory in memory. */
bool file_list(void *state, const char *prefix, int64_t deadline_ms, store_list_fn fn, void *ctx,
               struct error *err) NODISCARD;

bool file_put(void *state, const struct store_put *put, bool *existed, struct error *err) NODISCARD;
