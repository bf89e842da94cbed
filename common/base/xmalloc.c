#include "base/xmalloc.h"

#include "base/log.h"

#include <stdarg.h>
#include <string.h>

static void *or_abort(void *block)
{
    if (block == NULL) {
        log_error("out of memory: the process ends; give it more");
        abort();
    }
    return block;
}

void *xmalloc(size_t size)
{
    return or_abort(malloc(size));
}

void *xcalloc(size_t count, size_t size)
{
    return or_abort(calloc(count, size));
}

void *xreallocarray(void *block, size_t count, size_t size)
{
    return or_abort(reallocarray(block, count, size));
}

char *xstrdup(const char *text)
{
    return or_abort(strdup(text));
}

char *xasprintf(const char *fmt, ...)
{
    char *ret = NULL;
    va_list args;

    va_start(args, fmt);
    int len = vasprintf(&ret, fmt, args);
    va_end(args);
    return or_abort(len >= 0 ? ret : NULL);
}
