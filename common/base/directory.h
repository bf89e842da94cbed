/* Directories that are durable: what was made survives a power cut. Thread-safe. False: errno. */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>

/* mkdir -p. */
bool directory_make(const char *path) NODISCARD;
/* fsync of the directory `path`, which begins at the descriptor `at` (AT_FDCWD: where we are). */
bool directory_sync(int at, const char *path) NODISCARD;
