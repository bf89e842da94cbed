/* The bound on the memory that JSON takes when it is parsed. */
#include "base/json_cost.h"
#include "fuzz.h"

#include <jansson.h>

static size_t held, peak;

static void *count_malloc(size_t size)
{
    size_t *block = malloc(size + sizeof(max_align_t));

    if (block == NULL)
        return NULL;
    *block = size;
    held += size + 16; /* the allocator's own share */
    peak = held > peak ? held : peak;
    return (char *)block + sizeof(max_align_t);
}

static void count_free(void *data)
{
    if (data == NULL)
        return;
    size_t *block = (void *)((char *)data - sizeof(max_align_t));
    held -= *block + 16;
    free(block);
}

/* What a parser takes before it has read anything. */
enum { FIXED = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t flags[] = {0, JSON_REJECT_DUPLICATES};

    json_set_alloc_funcs(count_malloc, count_free);
    int64_t cost = json_cost(bytes_of(data, size));
    FUZZ_CHECK(cost >= 0);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        held = peak = 0;
        json_decref(json_loadb((const char *)data, size, flags[i], NULL));
        FUZZ_CHECK(held == 0);
        FUZZ_CHECK((int64_t)peak <= cost + FIXED);
    }
    return 0;
}
