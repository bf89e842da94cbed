#include "../test_cases.h"
#include "base/json.h"
#include "test_counted_malloc.h"

TEST(test_values)
{
    struct error err = {0};
    json_t *json = json_read(bytes_from_str("{\"a\": [1, \"x\"]}"), 0, &err);

    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "a"), 1)), "x");
    assert_int_equal(json_object_set_new(json, "b", json_integer(2)), 0);
    CLEANUP_FREE char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, "{\"a\":[1,\"x\"],\"b\":2}");
    json_decref(json);
    assert_int_equal(err.code, ERROR_NONE);
}

TEST(test_what_is_none)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "expected"},
        {"{", "expected"},
        {"{} x", "end of file"},
        {"[\"a\x01\"]", "control"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        assert_null(json_read(bytes_from_str(cases[i].text), 0, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
        assert_non_null(strstr(err.message, cases[i].says));
    }
    struct error err = {0};
    assert_null(json_read((struct bytes){0}, 0, &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
}

TEST(test_append)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(9);
    struct error err = {0};

    assert_true(json_append(json_pack("{s:s}", "a", "b"), &out, &err));
    assert_true(bytes_equal(buffer_view(&out), bytes_from_str("{\"a\":\"b\"}")));
    assert_fails(err, ERROR_TOO_LARGE, json_append(json_pack("[i]", 1), &out, &err));
    assert_fails(err, ERROR_BAD_REQUEST, json_append(json_pack("{s:s}", "a", "\xff"), &out, &err));
}

/* What the parser really takes stays below the bound, and not absurdly far. */
TEST(test_bound)
{
    static const char *const pieces[] = {
        "0,",
        "0.123456789,",
        "[],",
        "{},",
        "[0],",
        "{\"a\":0},",
        "\"\",",
        "\"abcdefgh\",",
        "null,",
        "[[[[]]]],",
        "{\"a\":{\"b\":[1,2,3,4,5,6,7,8,9]}},",
        "\"\\u00e9\\\"\\\\\",",
    };

    json_set_alloc_funcs(count_malloc, count_free);
    for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
        for (size_t count = 100; count <= 100000; count *= 10) {
            CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(8 << 20);
            struct error err;

            assert_true(buffer_append_str(&text, "[", &err));
            for (size_t i = 0; i < count; i++)
                assert_true(buffer_append_str(&text, pieces[p], &err));
            assert_true(buffer_append_str(&text, "0]", &err));
            peak = held = 0;
            json_t *json = json_loadb((const char *)text.data, text.len, 0, NULL);
            assert_non_null(json);
            json_decref(json);
            assert_int_equal(held, 0);
            int64_t cost = json_cost(buffer_view(&text));
            if ((int64_t)peak > cost + 4096 || cost > 12 * (int64_t)peak)
                fail_msg("%s x %zu: %zu bytes, told %lld", pieces[p], count, peak, (long long)cost);
        }
    }
}

TEST(test_long_strings)
{
    json_set_alloc_funcs(count_malloc, count_free);
    for (size_t len = 1000; len <= 10000000; len *= 10) {
        CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(len + 16);
        struct error err;

        assert_true(buffer_reserve(&text, len + 4, &err));
        memset(text.data, 'a', len + 4);
        memcpy(text.data, "[\"", 2);
        memcpy(text.data + len + 2, "\"]", 2);
        text.len = len + 4;
        peak = held = 0;
        json_t *json = json_loadb((const char *)text.data, text.len, 0, NULL);
        assert_non_null(json);
        json_decref(json);
        assert_true((int64_t)peak <= json_cost(buffer_view(&text)) + 4096);
    }
}

TEST(test_broken_text)
{
    static const char *const texts[] = {"", "\"", "\"\\", "\"\\\"", "[\"", "\\\"", "\"\"\""};

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        assert_in_range(json_cost(bytes_from_str(texts[i])), 0, 2000);
}

TEST_MAIN(NULL, NULL)
