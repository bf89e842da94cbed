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

static const struct object_name *name_of(enum image_format format, bool sealed)
{
    static struct object_name name;

    name = (struct object_name){.id = ID, .format = format, .sealed = sealed};
    return &name;
}

TEST(test_keys)
{
    char key[128];
    struct error err = {0};

    assert_true(object_key("", name_of(IMAGE_JPEG, false), key, sizeof(key), &err));
    assert_string_equal(key, ID ".jpg");
    assert_true(object_key("some/prefix/", name_of(IMAGE_AVIF, false), key, sizeof(key), &err));
    assert_string_equal(key, "some/prefix/" ID ".avif");
    assert_true(object_key("some/prefix/", name_of(IMAGE_PNG, true), key, sizeof(key), &err));
    assert_string_equal(key, "some/prefix/sealed/" ID ".png");
    assert_true(object_key("", name_of(IMAGE_JPEG, false), key, sizeof(ID ".jpg"), &err));
    assert_fails(err, ERROR_INTERNAL,
                 object_key("", name_of(IMAGE_JPEG, false), key, sizeof(ID ".jpg") - 1, &err));
}

/* What object_key makes, object_name_parse reads. */
TEST(test_round_trip)
{
    char key[128];
    struct object_name name;
    struct error err = {0};

    for (size_t i = 0; i < OBJECT_FORMATS; i++) {
        assert_true(object_key("", name_of(object_formats[i], false), key, sizeof(key), &err));
        assert_true(object_name_parse(key, &name));
        assert_int_equal(name.format, object_formats[i]);
        assert_false(name.sealed);
        assert_true(object_key("", name_of(object_formats[i], true), key, sizeof(key), &err));
        assert_true(object_name_parse(key, &name));
        assert_true(name.sealed && name.format == object_formats[i]);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(object_formats[i], object_formats[j]);
    }
}

TEST(test_candidates)
{
    static const struct {
        const char *asked;
        size_t count, sealed_from;
    } cases[] = {
        {ID, 2 * OBJECT_FORMATS, OBJECT_FORMATS},
        {ID ".png", 2, 1},
        {"sealed/" ID, OBJECT_FORMATS, 0},
        {"sealed/" ID ".png", 1, 0},
    };

    for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
        struct object_name asked, name;
        size_t i;

        assert_true(object_name_parse(cases[c].asked, &asked));
        for (i = 0; object_name_candidate(&asked, i, &name); i++) {
            assert_int_equal(name.sealed, i >= cases[c].sealed_from);
            assert_int_equal(name.format, asked.format != IMAGE_UNKNOWN
                                              ? asked.format
                                              : object_formats[i % OBJECT_FORMATS]);
        }
        assert_int_equal(i, cases[c].count);
    }
}

static void assert_id(const struct image_options *options, const char *data, const char *expected)
{
    char id[SHA256_HEX_LEN + 1];
    struct error err = {0};

    assert_true(content_id(options, NULL, bytes_from_str(data), id, &err));
    assert_string_equal(id, expected);
}

/* Expected values: printf 'darkroom-5\nwidth=...\n...hello' | sha256sum */
TEST(test_known_ids)
{
    struct image_options o = image_options_default();

    assert_id(&o, "hello", "5b647339a05d218de1f006d1c4a2247ab60762753252983ab8e0293edcdc8429");
    assert_id(&o, "", "68c5bed21ea0018ee0630dd639e94ca0fab157da5201c5822c19d6a6d73ec664");
    o.width = 256;
    o.height = 256; /* the default, spelled out */
    assert_id(&o, "hello", "5b647339a05d218de1f006d1c4a2247ab60762753252983ab8e0293edcdc8429");
    o.height = 0; /* from the aspect ratio: something else */
    assert_id(&o, "hello", "6b2e671a3b28eadcf1d025e446711a9829da669de561ab4eaf50d2ac5cb20616");
    o = image_options_default();
    o.quality = 94; /* JPEG's default, spelled out */
    assert_id(&o, "hello", "5b647339a05d218de1f006d1c4a2247ab60762753252983ab8e0293edcdc8429");
    o.format = IMAGE_WEBP;
    o.quality = 0;
    assert_id(&o, "hello", "4a195abe52db498f11ef353cc2578070748f445ad1059a97ad602f19aa018416");
    o = (struct image_options){.width = 5,
                               .height = 7,
                               .fit = IMAGE_CONTAIN,
                               .format = IMAGE_AVIF,
                               .quality = 1,
                               .background = 0x00abcd};
    assert_id(&o, "hello", "55e553f9e91c293a3ad859b82f57ad090d5249568e29caebd0677b3b9021eb25");
}

/* printf 'darkroom-5\n…sealed for NAME\nhello' | sha256sum: each owner has an object of his own. */
TEST(test_sealed_ids)
{
    struct image_options o = image_options_default();
    char ids[4][SHA256_HEX_LEN + 1];
    static const char *const owners[] = {NULL, "", "alice", "bob"};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        assert_true(content_id(&o, owners[i], bytes_from_str("hello"), ids[i], &err));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

TEST(test_every_option_counts)
{
    struct image_options base = image_options_default(), variants[8];
    char ids[ARRAY_SIZE(variants)][SHA256_HEX_LEN + 1];
    struct error err = {0};

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
        assert_true(content_id(&variants[i], NULL, bytes_of("x\0y", 3), ids[i], &err));
        assert_true(string_is_sha256_hex(ids[i]));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

TEST_MAIN(NULL, NULL)
