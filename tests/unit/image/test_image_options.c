#include "test_image_samples.h"

#include <string.h>

TEST(test_defaults_text)
{
    struct image_options o = image_options_default();
    char text[IMAGE_OPTIONS_TEXT_MAX];

    image_options_text(&o, text);
    assert_string_equal(text, "darkroom-5\nwidth=256\nheight=256\nfit=cover\nformat=jpeg\n"
                              "quality=94\nbackground=ffffff\n");
}

TEST(test_all_set)
{
    static const char *const pairs[][2] = {{"width", "65535"},
                                           {"fit", "inside"},
                                           {"format", "avif"},
                                           {"quality", "1"},
                                           {"background", "00Ff0a"}};
    struct image_options o = image_options_default();
    struct error err = {0};
    char text[IMAGE_OPTIONS_TEXT_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
        assert_true(image_options_set(&o, pairs[i][0], pairs[i][1], &err));
    image_options_text(&o, text);
    assert_string_equal(text, "darkroom-5\nwidth=65535\nheight=0\nfit=inside\nformat=avif\n"
                              "quality=1\nbackground=00ff0a\n");
    assert_true(image_options_set(&o, "height", "65535", &err));
    assert_true(image_options_set(&o, "fit", "contain", &err));
    assert_true(image_options_set(&o, "quality", "100", &err));
    image_options_text(&o, text);
    assert_true(strlen(text) < IMAGE_OPTIONS_TEXT_MAX - 1);
    assert_non_null(strstr(text, "background=00ff0a\n"));
}

TEST(test_errors_name_the_option)
{
    static const char *const wrong[][2] = {
        {"width", "0"},
        {"width", "-1"},
        {"width", "65536"},
        {"width", ""},
        {"width", "10px"},
        {"width", " 10"},
        {"height", "1e3"},
        {"height", "999999999999999999999"},
        {"quality", "0"},
        {"quality", "101"},
        {"fit", "Cover"},
        {"fit", ""},
        {"format", "gif"},
        {"format", "JPG"},
        {"format", "unknown"},
        {"background", "fff"},
        {"background", "#ffffff"},
        {"background", "0xffff"},
        {"background", "ffffff0"},
        {"background", "gggggg"},
        {"fit", "None"},
        {"median", "1"},
        {"median", "4"},
        {"median", "17"},
        {"median", ""},
        {"median", "3.0"},
        {"median", "-3"},
        {"mean", "1"},
        {"mean", "30"},
        {"mean", "33"},
        {"rotate", ""},
        {"rotate", "1.5"},
        {"rotate", "left"},
        {"rotate", "99999999999999999999"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct image_options o = image_options_default(), before = o;
        struct error err = {0};

        assert_fails(err, ERROR_BAD_REQUEST, image_options_set(&o, wrong[i][0], wrong[i][1], &err));
        assert_memory_equal(err.message, wrong[i][0], strlen(wrong[i][0]));
        assert_memory_equal(&o, &before, sizeof(o));
    }
}

TEST(test_unknown_option)
{
    struct image_options o = image_options_default();
    struct error err = {0};

    assert_fails(err, ERROR_NOT_FOUND, image_options_set(&o, "Width", "10", &err));
}

TEST(test_check)
{
    static const struct {
        int width, height;
        enum image_format format;
        const char *named; /* NULL: fine */
    } cases[] = {
        {0, 0, IMAGE_JPEG, NULL},
        {4000, 4000, IMAGE_JPEG, NULL},
        {4001, 4000, IMAGE_JPEG, "width, height"},
        {65535, 65535, IMAGE_PNG, "width, height"},
        {2000, 2000, IMAGE_AVIF, NULL},
        {2001, 2000, IMAGE_AVIF, "width, height"},
        {16383, 100, IMAGE_WEBP, NULL},
        {16384, 100, IMAGE_WEBP, "width"},
        {100, 16384, IMAGE_WEBP, "height"},
        {0, 16384, IMAGE_WEBP, "height"},
        {65535, 1, IMAGE_JPEG, "width"}, /* libjpeg: 65500 */
        {65535, 1, IMAGE_PNG, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct image_options o =
            options_of(cases[i].width, cases[i].height, IMAGE_COVER, cases[i].format);
        struct error err = {0};

        assert_int_equal(image_options_check(&o, &err), cases[i].named == NULL);
        if (cases[i].named != NULL) {
            char start[32];

            snprintf(start, sizeof(start), "%s:", cases[i].named);
            assert_int_equal(err.code, ERROR_BAD_REQUEST);
            assert_memory_equal(err.message, start, strlen(start));
        }
    }
}

TEST(test_formats)
{
    struct image_options o = {.format = IMAGE_PNG};
    struct error err = {0};
    assert_true(image_options_set(&o, "format", "jpg", &err));
    assert_int_equal(o.format, IMAGE_JPEG);
    assert_string_equal(image_format_name(IMAGE_JPEG), "jpeg");
    assert_string_equal(image_format_extension(IMAGE_JPEG), "jpg");
    assert_string_equal(image_format_content_type(IMAGE_WEBP), "image/webp");
    assert_int_equal(image_format_of_extension("jpg"), IMAGE_JPEG);
    assert_int_equal(image_format_of_extension("avif"), IMAGE_AVIF);
    assert_int_equal(image_format_of_extension("jpeg"), IMAGE_UNKNOWN);
    assert_int_equal(image_format_of_extension("gif"), IMAGE_UNKNOWN);
    assert_int_equal(image_format_of_extension(""), IMAGE_UNKNOWN);
}

TEST(test_sniff)
{
#define T(s, f)                                                                                    \
    {                                                                                              \
        s, sizeof(s) - 1, f                                                                        \
    }
    static const struct {
        const char *data;
        size_t len;
        enum image_format format;
    } cases[] = {
        T("", IMAGE_UNKNOWN),
        T("\xff\xd8", IMAGE_UNKNOWN),
        T("\xff\xd8\xff", IMAGE_JPEG),
        T("\x89PNG\r\n\x1a\n", IMAGE_PNG),
        T("\x89PNG\n\n\x1a\n", IMAGE_UNKNOWN),
        T("GIF87a", IMAGE_GIF),
        T("GIF89a", IMAGE_GIF),
        T("GIF88a", IMAGE_UNKNOWN),
        T("RIFF\0\0\0\0WEBP", IMAGE_WEBP),
        T("RIFF\0\0\0\0WAVE", IMAGE_UNKNOWN),
        T("II*\0", IMAGE_TIFF),
        T("MM\0*", IMAGE_TIFF),
        T("II+\0\x08\0\0\0", IMAGE_TIFF),
        T("\0\0\0\x10"
          "ftypavif\0\0\0\0",
          IMAGE_AVIF),
        T("\0\0\0\x10"
          "ftypheic\0\0\0\0",
          IMAGE_HEIC),
        T("\0\0\0\x18"
          "ftypmif1\0\0\0\0mif1avif",
          IMAGE_AVIF),
        T("\0\0\0\x18"
          "ftypmif1\0\0\0\0mif1heic",
          IMAGE_HEIC),
        T("\0\0\0\x10"
          "ftypmif1avif",
          IMAGE_HEIC), /* that is the version, not a brand */
        T("\0\0\0\x10"
          "ftypmp42\0\0\0\0",
          IMAGE_UNKNOWN),
        T("\0\0\0\x10"
          "ftypqt  \0\0\0\0",
          IMAGE_UNKNOWN),
        T("<svg xmlns='http://www.w3.org/2000/svg'/>", IMAGE_UNKNOWN),
        T("<?xml version='1.0'?><svg/>", IMAGE_UNKNOWN),
        T("PK\x03\x04 zip", IMAGE_UNKNOWN),
        T("BM\x36\0\0\0 bitmap", IMAGE_UNKNOWN),
        T("%PDF-1.4", IMAGE_UNKNOWN),
        T("P6\n1 1\n255\n", IMAGE_UNKNOWN),
        T("\0\0\0\x0cJXL \r\n\x87\n", IMAGE_UNKNOWN),
        T(" \xff\xd8\xff", IMAGE_UNKNOWN),
    };
#undef T

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct bytes data = bytes_of(cases[i].data, cases[i].len);
        struct image_header header;
        struct error err = {0};

        assert_int_equal(image_sniff(data), cases[i].format);
        /* a magic alone is no image; anything else is none of ours */
        assert_false(image_probe(data, &test_limits, &header, &err));
        assert_int_equal(err.code, cases[i].format == IMAGE_UNKNOWN ? ERROR_UNSUPPORTED_MEDIA
                                                                    : ERROR_BAD_IMAGE);
    }
}

TEST_MAIN(start_images, stop_images)
