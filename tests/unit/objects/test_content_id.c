#include "objects/content_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void assert_id(const struct image_options *options, const char *data, const char *expected)
{
    char id[SHA256_HEX_LEN + 1];
    struct error err = {0};

    assert_true(content_id(options, bytes_from_str(data), id, &err));
    assert_string_equal(id, expected);
}

/* Expected values: printf 'darkroom-2\nwidth=...\n...hello' | sha256sum */
static void test_known_ids(void **state)
{
    struct image_options o = image_options_default();

    (void)state;
    assert_id(&o, "hello", "dd6eb58b02a5a24a0baf0bf4e278cffd08c5ed0e193e8de56f7635cfb72b3c11");
    assert_id(&o, "", "51c9a61ed5be86a13ac390902a194fc7bbce13bef49640dc31a0c7ef67934289");
    o.width = 256;
    o.height = 256; /* the default, spelled out */
    assert_id(&o, "hello", "dd6eb58b02a5a24a0baf0bf4e278cffd08c5ed0e193e8de56f7635cfb72b3c11");
    o.height = 0; /* from the aspect ratio: something else */
    assert_id(&o, "hello", "f7e5efafe1d5414af6ff08603772b236cfd59ffcef94b778d1e916e3a0ca966b");
    o = (struct image_options){.width = 5,
                               .height = 7,
                               .fit = IMAGE_CONTAIN,
                               .format = IMAGE_AVIF,
                               .quality = 1,
                               .background = 0x00abcd};
    assert_id(&o, "hello", "08a4768d2789bd63c948ecf9b6939d6417239709874c307ec4f2b9f242ef147e");
}

static void test_every_option_counts(void **state)
{
    struct image_options base = image_options_default(), variants[8];
    char ids[ARRAY_SIZE(variants)][SHA256_HEX_LEN + 1];
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
        variants[i] = base;
    variants[1].width = 255;
    variants[2].height = 255;
    variants[3].fit = IMAGE_FILL;
    variants[4].format = IMAGE_PNG;
    variants[5].quality = 89;
    variants[6].background = 0xfffffe;
    variants[7].width = variants[7].height = 255;
    for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
        assert_true(content_id(&variants[i], bytes_of("x\0y", 3), ids[i], &err));
        assert_true(string_is_sha256_hex(ids[i]));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_ids),
        cmocka_unit_test(test_every_option_counts),
    };

    return cmocka_run_group_tests_name("content_id", tests, NULL, NULL);
}
