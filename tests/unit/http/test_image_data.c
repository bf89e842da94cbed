#include "http/image_data.h"

#include "../test_cases.h"

static struct byte_budget budget = {.max = 1 << 20};

static bool parse(const char *text, struct image_data *ret, struct error *err)
{
    return image_data_parse(bytes_from_str(text), &budget, ret, err);
}

TEST(pictures)
{
    static const struct {
        const char *text, *picture;
    } cases[] = {
        {"{\"image_data\": \"aGVsbG8=\"}", "hello"},
        {"{\"image_data\":\"aGVsbG8\"}", "hello"},
        {"{\"image_data\":\"aGVs*bG8=trailing\"}", "hello"},
        {"{\"image_data\":\"aGVs\\r\\nbG8=\"}", "hello"},
        {"{\"image_data\":\"\\u0061GVsbG8=\"}", "hello"},
        {"{\"image_data\":\"\\u2603aGVs\"}", "hel"},
        {"{\"image_data\":\"\\/\\u002b+\\/\"}", "\xff\xef\xbf"},
        {"{\"image_data\":\"_--_\"}", "\xff\xef\xbf"},
        {"{\"image_data\":\"aGVs\",\"image_data\":\"bG8=\"}", "lo"},
        {"{\"image_data\":null}", ""},
        {"{\"image_data\":\"\"}", ""},
        {"{\"image_data\":\"====\"}", ""},
        {"{}", ""},
        /* what only looks like it */
        {"{\"x\":\"image_data\",\"y\":\"aGVs\"}", ""},
        {"{\"x\":{\"image_data\":\"aGVs\"}}", ""},
        {"{\"x\":[{\"image_data\":\"aGVs\"}],\"image_data\":\"bG8=\"}", "lo"},
        {"{\"x\":\"\\\"image_data\\\":\\\"aGVs\\\"\"}", ""},
        {" \t{ \"a\\\"\" : 1 , \"image_data\" : \"bG8=\" } \n", "lo"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(image_data_done) struct image_data data = {0};
        struct error err = {0};

        if (!parse(cases[i].text, &data, &err))
            fail_msg("%s: %s", cases[i].text, err.message);
        if (!bytes_equal(buffer_view(&data.picture), bytes_from_str(cases[i].picture)))
            fail_msg("%s", cases[i].text);
        assert_true(json_is_object(data.object));
    }
    assert_int_equal(atomic_load(&budget.used), 0);
}

TEST(mistakes)
{
    static const char *const texts[] = {
        "",
        "x",
        "[]",
        "\"image_data\"",
        "{",
        "{\"image_data\"",
        "{\"image_data\":",
        "{\"image_data\":\"aGVs",
        "{\"image_data\":\"aGVs\"",
        "{\"image_data\":\"aGVs\\",
        "{\"image_data\":\"aGVs\"}}",
        "{\"image_data\":\"aGVs\" \"x\"}",
        "{\"image_data\":\"aGVsb\"}",
        "{\"image_data\":7}",
        "{\"image_data\":{\"image_data\":\"aGVs\"}}",
        "[\"image_data\":\"aGVs\"]",
        "{\"image_data\":\"aGVs\",\"image_data\":[]}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP(image_data_done) struct image_data data = {0};
        struct error err = {0};

        if (parse(texts[i], &data, &err))
            fail_msg("%s", texts[i]);
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
    }
    assert_int_equal(atomic_load(&budget.used), 0);
}

TEST(what_else_it_says)
{
    CLEANUP(image_data_done) struct image_data data = {0};
    struct error err = {0};

    assert_true(
        parse("{\"a\":[1],\"image_data\":\"aGVs\",\"file_name\":\"\xe2\x98\x83\"}", &data, &err));
    assert_string_equal(json_string_value(json_object_get(data.object, "file_name")),
                        "\xe2\x98\x83");
    assert_int_equal(json_array_size(json_object_get(data.object, "a")), 1);
    assert_string_equal(json_string_value(json_object_get(data.object, "image_data")), "");
}

TEST(bounds)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(8 << 20);
    struct image_data data = {0};
    struct error err = {0};

    assert_true(buffer_append_str(&text, "{\"image_data\":\"", &err));
    const size_t start = text.len;
    assert_true(buffer_reserve(&text, 4 << 20, &err));
    memset(text.data + start, 'A', 1 << 20);
    text.len += 1 << 20;
    assert_true(buffer_append_str(&text, "\"}", &err));
    assert_true(image_data_parse(buffer_view(&text), &budget, &data, &err));
    assert_int_equal(data.picture.len, 3 << 18);
    assert_in_range(atomic_load(&budget.used), 3 << 18, (3 << 18) + 16);
    struct image_data second = {0};
    assert_false(image_data_parse(buffer_view(&text), &budget, &second, &err));
    assert_int_equal(err.code, ERROR_OVERLOADED);
    image_data_done(&second);
    image_data_done(&data);
    assert_int_equal(atomic_load(&budget.used), 0);
    memcpy(text.data, "{\"other_data\":\"", start);
    assert_false(image_data_parse(buffer_view(&text), &budget, &data, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    image_data_done(&data);
}

TEST(writing)
{
    const struct image_member members[] = {{"image_data", bytes_from_str("hello")},
                                           {"empty", {NULL, 0}}};
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(image_data_size(5));
    struct error err = {0};

    assert_true(image_data_write(json_pack("{s:s}", "a", "b\""), members, 2, &text, &err));
    assert_string_equal(buffer_cstr(&text, &err),
                        "{\"a\":\"b\\\"\",\"image_data\":\"aGVsbG8=\",\"empty\":\"\"}");
    text.len = 0;
    assert_true(image_data_write(json_object(), members, 1, &text, &err));
    assert_string_equal(buffer_cstr(&text, &err), "{\"image_data\":\"aGVsbG8=\"}");
    assert_false(image_data_write(json_pack("{s:s}", "a", "\xff"), members, 1, &text, &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
}

TEST_MAIN(NULL, NULL)
