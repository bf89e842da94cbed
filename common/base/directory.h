/* Directories that are durable: what was made survives a power cut. Thread-safe. False: errno, or
 * what *err says. */
#pragma once

#include "base/error.h"

/* Where a file is: "a/b" of "a/b/c", "." of "c". The caller frees. */
char *directory_of(const char *path) NODISCARD;
/* mkdir -p. */
bool directory_make(const char *path) NODISCARD;
/* The directory of the file `path`. ERROR_UNAVAILABLE. */
bool directory_make_parents(const char *path, struct error *err) NODISCARD;
/* fsync of the directory `path`, which begins at the descriptor `at` (AT_FDCWD: where we are). */
bool directory_sync(int at, const char *path) NODISCARD;
