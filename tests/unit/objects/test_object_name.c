#include "objects/object_name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_names(void **state)
{
    static const struct {
        const char *text;
        enum image_format format;
    } good[] = {
        {ID, IMAGE_UNKNOWN},      {ID ".jpg", IMAGE_JPEG},  {ID ".png", IMAGE_PNG},
        {ID ".webp", IMAGE_WEBP}, {ID ".avif", IMAGE_AVIF},
    };
    struct object_name name;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_true(object_name_parse(good[i].text, &name));
        assert_string_equal(name.id, ID);
        assert_int_equal(name.format, good[i].format);
    }
}

static void test_no_names(void **state)
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

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (object_name_parse(bad[i], &name))
            fail_msg("taken for a name: %s", bad[i]);
}

static void test_keys(void **state)
{
    char key[128];
    struct error err = {0};

    (void)state;
    assert_true(object_key("", ID, IMAGE_JPEG, key, sizeof(key), &err));
    assert_string_equal(key, ID ".jpg");
    assert_true(object_key("some/prefix/", ID, IMAGE_AVIF, key, sizeof(key), &err));
    assert_string_equal(key, "some/prefix/" ID ".avif");
    assert_true(object_key("", ID, IMAGE_JPEG, key, sizeof(ID ".jpg"), &err));
    assert_false(object_key("", ID, IMAGE_JPEG, key, sizeof(ID ".jpg") - 1, &err));
    assert_int_equal(err.code, ERROR_INTERNAL);
}

/* What object_key makes, object_name_parse reads. */
static void test_round_trip(void **state)
{
    char key[128];
    struct object_name name;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < OBJECT_FORMATS; i++) {
        assert_true(object_key("", ID, object_formats[i], key, sizeof(key), &err));
        assert_true(object_name_parse(key, &name));
        assert_int_equal(name.format, object_formats[i]);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(object_formats[i], object_formats[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_names),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests_name("object_name", tests, NULL, NULL);
}
