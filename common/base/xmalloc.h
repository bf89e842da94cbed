/* Memory for small things of a fixed size: without it the process ends (abort, after a log line),
 * which loses nothing that was promised. What a request sizes is asked for with malloc or a buffer,
 * and checked. Thread-safe; freed with free. */
#pragma once

#include "base/cleanup.h"

#include <stddef.h>

void *xmalloc(size_t size) NODISCARD;
void *xcalloc(size_t count, size_t size) NODISCARD;
void *xreallocarray(void *block, size_t count, size_t size) NODISCARD;
char *xstrdup(const char *text) NODISCARD;
char *xasprintf(const char *fmt, ...) NODISCARD PRINTF_LIKE(1, 2);
