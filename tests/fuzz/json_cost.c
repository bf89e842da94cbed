/* The bound on the memory that JSON takes when it is parsed. */
#include "../unit/base/test_counted_malloc.h"
#include "base/json.h"
#include "fuzz.h"

#include <jansson.h>

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
