/* The outbox's directory and lock file. */
#pragma once

#include "base/error.h"

#include <stdint.h>

enum { OUTBOX_PATH_MAX = 4000, OUTBOX_NAME_MAX = 4096 }; /* a name is a path with a suffix */

/* Bytes of the file `path` + `suffix`; -1: there is none. */
int64_t outbox_file_size(const char *path, const char *suffix);
bool outbox_file_make_parents(const char *path, struct error *err) NODISCARD;
bool outbox_file_sync_directory(const char *path, struct error *err) NODISCARD;
/* Hold flock() on <path>.lock. Returns its descriptor, or -1. *used_before: the file was there. */
int outbox_file_lock(const char *path, int64_t wait_ms, bool *used_before,
                     struct error *err) NODISCARD;
