/* A Range header's value, after eight bytes of the representation's size. */
#include "fuzz.h"
#include "http/request.h"

#include <inttypes.h>

static void check_bounds(struct byte_range range, uint64_t size)
{
    FUZZ_CHECK(range.kind == RANGE_NONE || range.kind == RANGE_ONE ||
               range.kind == RANGE_UNSATISFIABLE);
    if (range.kind == RANGE_ONE)
        FUZZ_CHECK(range.first <= range.last && range.last < size);
}

/* What was understood, written again, is understood again. */
static void check_round_trip(struct byte_range range, uint64_t size)
{
    char text[64];

    if (range.kind != RANGE_ONE || range.last > INT64_MAX)
        return;
    snprintf(text, sizeof(text), "bytes=%" PRIu64 "-%" PRIu64, range.first, range.last);
    struct byte_range again = range_parse(text, size);
    if (range.first <= 999999999999999999 && range.last <= 999999999999999999)
        FUZZ_CHECK(again.kind == RANGE_ONE && again.first == range.first &&
                   again.last == range.last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint64_t whole = 0;

    for (int i = 0; i < 8; i++)
        whole = whole << 8 | fuzz_byte(&in);
    CLEANUP_FREE char *text = fuzz_text(in);
    const uint64_t sizes[] = {whole, whole & 0xff, 0, 1, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct byte_range range = range_parse(text, sizes[i]);
        check_bounds(range, sizes[i]);
        check_round_trip(range, sizes[i]);
        FUZZ_CHECK(range.kind == RANGE_NONE || strncasecmp(text, "bytes=", 6) == 0);
    }
    return 0;
}
