#include "../test_cases.h"
#include "model/outputs.h"

#include <math.h>

static char lines[][32] = {"tench, Tinca tinca", "goldfish", "a, b, c", "",
                           "caf\xc3\xa9, x",     "six"};
static char *names[] = {lines[0], lines[1], lines[2], lines[3], lines[4], lines[5]};
static const struct manifest six = {.name = "six", .labels = names, .label_count = 6};

static void assert_order(const float *scores, size_t k, const size_t *expected, size_t count)
{
    struct labels labels;

    labels_pick(&six, scores, k, &labels);
    assert_int_equal(labels.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(labels.top[i].index, expected[i]);
        assert_true(labels.top[i].confidence == scores[expected[i]]);
    }
}

TEST(test_best_first)
{
    const float scores[] = {0.1F, 0.3F, 0.05F, 0.2F, 0.25F, 0.1F};
    const size_t all[] = {1, 4, 3, 0, 5, 2};

    for (size_t k = 1; k <= 6; k++)
        assert_order(scores, k, all, k);
    assert_order(scores, TOP_K_MAX, all, 6);
}

TEST(test_equal_ones_by_index)
{
    const float flat[] = {0.5F, 0.5F, 0.5F, 0.5F, 0.5F, 0.5F};
    const float late[] = {0, 0.5F, 0, 0.5F, 0, 1};
    const size_t in_order[] = {0, 1, 2, 3, 4, 5}, mixed[] = {5, 1, 3, 0, 2, 4};

    for (size_t k = 1; k <= 6; k++) {
        assert_order(flat, k, in_order, k);
        assert_order(late, k, mixed, k);
    }
}

TEST(test_sorted_both_ways)
{
    const float rising[] = {1, 2, 3, 4, 5, 6}, falling[] = {6, 5, 4, 3, 2, 1};
    const size_t down[] = {5, 4, 3, 2, 1, 0}, up[] = {0, 1, 2, 3, 4, 5};

    for (size_t k = 1; k <= 6; k++) {
        assert_order(rising, k, down, k);
        assert_order(falling, k, up, k);
    }
}

TEST(test_json)
{
    static const char *const expected[] = {"tench", "goldfish", "a", "", "caf\xc3\xa9", "six"};
    const float scores[] = {0.6F, 0.5F, 0.4F, 0.3F, 0.2F, 0.0000004F};
    struct labels labels;

    labels_pick(&six, scores, 6, &labels);
    json_t *json = labels_to_json(&six, &labels);
    assert_non_null(json);
    assert_int_equal(json_object_size(json), 4);
    assert_string_equal(json_string_value(json_object_get(json, "label")), "tench");
    assert_string_equal(json_string_value(json_object_get(json, "model")), "six");
    assert_true(json_real_value(json_object_get(json, "confidence")) == 0.6);
    const json_t *top = json_object_get(json, "top");
    assert_int_equal(json_array_size(top), 6);
    for (size_t i = 0; i < 6; i++) {
        const json_t *entry = json_array_get(top, i);
        assert_int_equal(json_object_size(entry), 3);
        assert_string_equal(json_string_value(json_object_get(entry, "label")), expected[i]);
        assert_int_equal(json_integer_value(json_object_get(entry, "index")), i);
    }
    /* six decimals: stable text */
    assert_true(json_real_value(json_object_get(json_array_get(top, 4), "confidence")) == 0.2);
    assert_true(json_real_value(json_object_get(json_array_get(top, 5), "confidence")) == 0.0);
    json_decref(json);
}

TEST(test_large_scores)
{
    /* logits that nobody has put through softmax */
    const float scores[] = {1e9F, -1e9F, 3e9F, 0, 1, 2};
    struct labels labels;

    labels_pick(&six, scores, 1, &labels);
    json_t *json = labels_to_json(&six, &labels);
    assert_true(json_real_value(json_object_get(json, "confidence")) == 3e9);
    json_decref(json);
}

/* ---- masks ---- */

TEST(test_mask_is_stretched)
{
    const float map[] = {0, 0.1F, 0.2F, 0.5F, 0.8F, 0.95F, 1};
    const uint8_t should[] = {0, 0, 0, 128, 255, 255, 255};
    uint8_t mask[sizeof(should)];

    mask_from_map(map, sizeof(should), mask);
    for (size_t i = 0; i < sizeof(should); i++)
        assert_in_range(mask[i], should[i] > 0 ? should[i] - 1 : 0, should[i]);
}

/* A model that is not quite sure still gives a whole subject. */
TEST(test_mask_has_its_smallest_and_largest)
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

TEST(test_mask_of_what_is_no_number)
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
