#include "../test_cases.h"
#include "catalogue/catalogue_internal.h"

#define HEAD(text)                                                                                 \
    {                                                                                              \
        .data = (const uint8_t *)(text), .len = sizeof(text) - 1                                   \
    }

static const struct {
    enum image_format format;
    struct bytes head;
    int width, height;
} cases[] = {
    {IMAGE_JPEG,
     HEAD("\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc4\x00\x03\x11"
          "\xff\xc2\x00\x11\x08\x01\x02\x03\x04\x03\x01"),
     0x0304, 0x0102},
    {IMAGE_PNG, HEAD("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x01\0\0\0\0\x20\x08\x02\0\0\0"), 256, 32},
    {IMAGE_WEBP, HEAD("RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\x3f\x01\0\x2f\0\0"), 320, 48},
    {IMAGE_WEBP, HEAD("RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x3f\xc0\x0b\0\0\0\0\0\0"), 64, 48},
    {IMAGE_WEBP, HEAD("RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x40\x01\x30\x00"), 320, 48},
    {IMAGE_AVIF,
     HEAD("\0\0\0\x14ispe\0\0\0\0\0\0\0\x20\0\0\0\x10\0\0\0\x14ispe\0\0\0\0\0\0\x02\0\0\0\1\0"),
     512, 256},
};

TEST(sizes_are_read)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int width = 0, height = 0;

        assert_true(dimensions_read(cases[i].head, cases[i].format, &width, &height));
        assert_int_equal(width, cases[i].width);
        assert_int_equal(height, cases[i].height);
    }
}

/* Cut anywhere, in memory of just that size: AddressSanitizer sees a read beyond it. */
TEST(what_is_cut_is_refused_or_right)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t len = 0; len < cases[i].head.len; len++) {
            CLEANUP_FREE uint8_t *part = malloc(len + (len == 0));
            int width = 0, height = 0;

            memcpy(part, cases[i].head.data, len);
            if (dimensions_read(bytes_of(part, len), cases[i].format, &width, &height))
                assert_true(width > 0 && height > 0);
            else
                assert_int_equal(width, 0);
        }
}

TEST(others_are_refused)
{
    int width = 0, height = 0;

    (void)state;
    assert_false(dimensions_read(
        (struct bytes)HEAD("\xff\xd8\xff\xe0\x00\x00\xff\xe0\x00\x00\xff\xe0\x00\x00"), IMAGE_JPEG,
        &width, &height));
    assert_false(
        dimensions_read((struct bytes)HEAD("GIF89a\1\0\1\0 and some more bytes that say nothing"),
                        IMAGE_PNG, &width, &height));
    assert_false(dimensions_read((struct bytes)HEAD("GIF89a"), IMAGE_UNKNOWN, &width, &height));
}

TEST_MAIN(NULL, NULL)
