#include "../test_cases.h"
#include "objects/object_name.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(test_names)
{
    static const struct {
        const char *text;
        enum image_format format;
    } good[] = {
        {ID, IMAGE_UNKNOWN},      {ID ".jpg", IMAGE_JPEG},  {ID ".png", IMAGE_PNG},
        {ID ".webp", IMAGE_WEBP}, {ID ".avif", IMAGE_AVIF},
    };
    struct object_name name;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(object_name_parse(good[i].text, &name));
        assert_string_equal(name.id, ID);
        assert_int_equal(name.format, good[i].format);
    }
}

TEST(test_no_names)
{
    static const char *const bad[] = {
        "",
        "x",
        ".jpg",
        ID "0",
        ID ".",
        ID ".gif",
        ID ".tif",
        ID ".heic",
        ID ".jpeg",
        ID ".JPG",
        ID ".jpg ",
        ID ".jpg.json",
        ID "/x",
        " " ID,
        ID ".bin",
        "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdeg0123456789abcdef0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
    };
    struct object_name name;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (object_name_parse(bad[i], &name))
            fail_msg("taken for a name: %s", bad[i]);
}

TEST(test_keys)
{
    char key[128];
    struct error err = {0};

    assert_true(object_key("", ID, IMAGE_JPEG, key, sizeof(key), &err));
    assert_string_equal(key, ID ".jpg");
    assert_true(object_key("some/prefix/", ID, IMAGE_AVIF, key, sizeof(key), &err));
    assert_string_equal(key, "some/prefix/" ID ".avif");
    assert_true(object_key("", ID, IMAGE_JPEG, key, sizeof(ID ".jpg"), &err));
    assert_false(object_key("", ID, IMAGE_JPEG, key, sizeof(ID ".jpg") - 1, &err));
    assert_int_equal(err.code, ERROR_INTERNAL);
}

/* What object_key makes, object_name_parse reads. */
TEST(test_round_trip)
{
    char key[128];
    struct object_name name;
    struct error err = {0};

    for (size_t i = 0; i < OBJECT_FORMATS; i++) {
        assert_true(object_key("", ID, object_formats[i], key, sizeof(key), &err));
        assert_true(object_name_parse(key, &name));
        assert_int_equal(name.format, object_formats[i]);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(object_formats[i], object_formats[j]);
    }
}

TEST_MAIN(NULL, NULL)
