#include "../test_cases.h"
#include "base/json.h"

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
    assert_false(json_append(json_pack("[i]", 1), &out, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    assert_false(json_append(json_pack("{s:s}", "a", "\xff"), &out, &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
}

TEST_MAIN(NULL, NULL)
