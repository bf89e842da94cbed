#include "base/xmalloc.h"

#include "base/log.h"

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
