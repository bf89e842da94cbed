#include "../test_cases.h"
#include "model/mask.h"

#include "base/cleanup.h"

#include <math.h>
#include <stdbool.h>

TEST(test_stretched)
{
    const float map[] = {0, 0.1F, 0.2F, 0.5F, 0.8F, 0.95F, 1};
    const uint8_t should[] = {0, 0, 0, 128, 255, 255, 255};
    uint8_t mask[sizeof(should)];

    mask_from_map(map, sizeof(should), mask);
    for (size_t i = 0; i < sizeof(should); i++)
        assert_in_range(mask[i], should[i] > 0 ? should[i] - 1 : 0, should[i]);
}

/* A model that is not quite sure still gives a whole subject. */
TEST(test_smallest_and_largest_count)
{
    const float map[] = {0.2F, 0.5F, 0.8F};
    uint8_t mask[3];

    mask_from_map(map, 3, mask);
    assert_int_equal(mask[0], 0);
    assert_in_range(mask[1], 127, 128);
    assert_int_equal(mask[2], 255);
}

/* Divided by its own largest number, noise would be a subject. */
TEST(test_nothing_stays_nothing)
{
    const float map[] = {0.001F, 0.05F, 0.06F, 0.02F};
    uint8_t mask[4], none[4] = {0};

    mask_from_map(map, 4, mask);
    assert_memory_equal(mask, none, 4);
}

TEST(test_what_is_no_number)
{
    const float map[] = {NAN, 1, 0, INFINITY};
    uint8_t mask[4];

    mask_from_map(map, 3, mask);
    assert_int_equal(mask[1], 255);
    assert_int_equal(mask[2], 0);
    mask_from_map(map, 4, mask); /* is in bounds, whatever it is */
    mask_from_map(map + 3, 1, mask);
}

TEST_MAIN(NULL, NULL)
