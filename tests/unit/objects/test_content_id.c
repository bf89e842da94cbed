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

/* Expected values: printf 'darkroom-3\nwidth=...\n...hello' | sha256sum */
static void test_known_ids(void **state)
{
    struct image_options o = image_options_default();

    (void)state;
    assert_id(&o, "hello", "9817a5916958d3bca1b50fffa45cc45e92c8bb91383ff6a550db1a5d6805e872");
    assert_id(&o, "", "a6bc8486f496975ef745a6bdf9043502e08cd79f95fe7f64d56d14612a3a6f7e");
    o.width = 256;
    o.height = 256; /* the default, spelled out */
    assert_id(&o, "hello", "9817a5916958d3bca1b50fffa45cc45e92c8bb91383ff6a550db1a5d6805e872");
    o.height = 0; /* from the aspect ratio: something else */
    assert_id(&o, "hello", "230efe9a0d0b2375928d1b19f2810a7f9d13831793d5cd6928292676170ae9c1");
    o = image_options_default();
    o.quality = 94; /* JPEG's default, spelled out */
    assert_id(&o, "hello", "9817a5916958d3bca1b50fffa45cc45e92c8bb91383ff6a550db1a5d6805e872");
    o.format = IMAGE_WEBP;
    o.quality = 0;
    assert_id(&o, "hello", "e026d3bf9081b7e86159130796d289ad04d0680fbfe76e369b6e7753eed1b113");
    o = (struct image_options){.width = 5,
                               .height = 7,
                               .fit = IMAGE_CONTAIN,
                               .format = IMAGE_AVIF,
                               .quality = 1,
                               .background = 0x00abcd};
    assert_id(&o, "hello", "70e536796a1c5f149b3a58a6404c8a79b20d4204ce2caaa15eb2879f6b12578c");
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
