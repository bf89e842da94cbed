/* Memory functions for json_set_alloc_funcs that count what is held. */
#pragma once

#include <stddef.h>
#include <stdlib.h>

static size_t held, peak; /* bytes */

static inline void *count_malloc(size_t size)
{
    size_t *block = malloc(size + sizeof(max_align_t));

    if (block == NULL)
        return NULL;
    *block = size;
    held += size + 16; /* the allocator's own share */
    peak = held > peak ? held : peak;
    return (char *)block + sizeof(max_align_t);
}

static inline void count_free(void *data)
{
    if (data == NULL)
        return;
    size_t *block = (void *)((char *)data - sizeof(max_align_t));
    held -= *block + 16;
    free(block);
}
