#include "test_image_samples.h"

#include <string.h>

TEST(test_sizes)
{
    static const struct {
        int source_width, source_height, width, height;
        enum image_fit fit;
        int result_width, result_height;
    } cases[] = {
        /* first, with no buffer of others: more rows at a time when it is cropped, 3 for 2 */
        {1632, 1224, 1000, 1000, IMAGE_COVER, 1000, 1000},
        {300, 500, 0, 0, IMAGE_COVER, 256, 256},
        {300, 500, 0, 0, IMAGE_COVER, 256, 256}, /* as PNG */
        {300, 500, 0, 0, IMAGE_INSIDE, 154, 256},
        {300, 500, 100, 70, IMAGE_COVER, 100, 70},
        {300, 500, 100, 70, IMAGE_CONTAIN, 100, 70},
        {300, 500, 100, 70, IMAGE_FILL, 100, 70},
        {300, 500, 100, 70, IMAGE_INSIDE, 42, 70},
        {300, 500, 1000, 1000, IMAGE_INSIDE, 300, 500},
        {300, 500, 1000, 900, IMAGE_COVER, 1000, 900},
        {300, 500, 1000, 900, IMAGE_CONTAIN, 1000, 900},
        {300, 500, 1000, 20, IMAGE_FILL, 1000, 20},
        {300, 500, 60, 0, IMAGE_COVER, 60, 100},
        {300, 500, 0, 50, IMAGE_FILL, 30, 50},
        {300, 500, 600, 0, IMAGE_CONTAIN, 600, 1000},
        {300, 500, 600, 0, IMAGE_INSIDE, 300, 500},
        {300, 500, 60, 0, IMAGE_INSIDE, 60, 100},
        {300, 500, 1, 1, IMAGE_COVER, 1, 1},
        {300, 500, 300, 500, IMAGE_COVER, 300, 500},
        {2, 2, 0, 0, IMAGE_COVER, 256, 256},
        {2, 2, 333, 77, IMAGE_CONTAIN, 333, 77},
        {2000, 1200, 333, 77, IMAGE_COVER, 333, 77},
        {1999 * 2, 20, 64, 64, IMAGE_COVER, 64, 64},
        {2, 20000, 256, 256, IMAGE_COVER, 256, 256},
        {20000, 2, 256, 256, IMAGE_COVER, 256, 256},
        {2, 20000, 256, 256, IMAGE_CONTAIN, 256, 256},
        {20000, 2, 256, 256, IMAGE_FILL, 256, 256},
        {20000, 2, 256, 256, IMAGE_INSIDE, 256, 1},
        {20000, 2, 100, 0, IMAGE_INSIDE, 100, 1},
        {20000, 2, 100, 0, IMAGE_COVER, 100, 1},
        {20000, 2, 4000, 4000, IMAGE_COVER, 4000, 4000},
        {66000, 20, 64, 64, IMAGE_COVER, 64, 64},
        {20, 66000, 64, 64, IMAGE_FILL, 64, 64},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct image_options o =
            options_of(cases[i].width, cases[i].height, cases[i].fit, IMAGE_JPEG);
        SAMPLE s = save_sample(
            draw_plain(cases[i].source_width, cases[i].source_height, GREEN),
            i % 2 == 0 && cases[i].source_width < 65500 && cases[i].source_height < 65500 ? ".jpg"
                                                                                          : ".png");
        CLEANUP(image_result_done) struct image_result r = {0};

        transform_ok(s, &o, &r);
        assert_int_equal(r.width, cases[i].result_width);
        assert_int_equal(r.height, cases[i].result_height);
        if (cases[i].fit == IMAGE_CONTAIN)
            continue;
        assert_near(pixel_at(r.data, r.len, r.width - 1, r.height - 1), GREEN, 6);
        assert_near(pixel_at(r.data, r.len, r.width / 2, r.height / 2), GREEN, 6);
    }
}

TEST(test_one_pixel)
{
    static const enum image_fit fits[] = {IMAGE_COVER, IMAGE_CONTAIN, IMAGE_FILL, IMAGE_INSIDE};
    static const int sizes[][2] = {{1, 1}, {1, 20000}, {20000, 1}};

    for (size_t i = 0; i < ARRAY_SIZE(fits) * ARRAY_SIZE(sizes); i++) {
        const int *size = sizes[i / ARRAY_SIZE(fits)];
        struct image_options o = options_of(256, 256, fits[i % ARRAY_SIZE(fits)], IMAGE_PNG);
        SAMPLE s = save_sample(draw_plain(size[0], size[1], RED), ".png");
        CLEANUP(image_result_done) struct image_result r = {0};

        transform_ok(s, &o, &r);
        assert_near(pixel_at(r.data, r.len, (r.width - 1) / 2, (r.height - 1) / 2), RED, 0);
    }
}

TEST(test_derived_size_is_checked)
{
    SAMPLE s = save_sample(draw_plain(2, 20000, RED), ".png");
    struct image_options o = options_of(256, 0, IMAGE_COVER, IMAGE_PNG);
    struct image_result r = {0};
    struct error err = {0};

    assert_fails(err, ERROR_BAD_REQUEST, transform(sample_bytes(s), &o, &r, &err));
    assert_memory_equal(err.message, "width:", 6);
    assert_null(r.data);
    o.fit = IMAGE_INSIDE; /* never enlarges */
    transform_ok(s, &o, &r);
    assert_int_equal(r.height, 20000);
    image_result_done(&r);
}

TEST(test_webp_dimension)
{
    SAMPLE s = save_sample(draw_plain(2, 20000, RED), ".png");
    struct image_options o = options_of(2, 0, IMAGE_COVER, IMAGE_WEBP);
    struct image_result r = {0};
    struct error err = {0};

    assert_fails(err, ERROR_BAD_REQUEST, transform(sample_bytes(s), &o, &r, &err));
    assert_memory_equal(err.message, "width:", 6);
}

/* Where the quarters land says what was cropped, padded or stretched. */
TEST(test_fits)
{
    SAMPLE s = save_sample(draw_quarters(200, 100), ".png");
    struct image_options o = options_of(100, 100, IMAGE_COVER, IMAGE_PNG);

    for (int i = 0; i < 2; i++) { /* cropping, and enlarging at the same time */
        int n = o.width;

        assert_near(transformed_pixel(s, o, n / 4, n / 4), RED, 2);
        assert_near(transformed_pixel(s, o, n * 45 / 100, n / 4), RED, 2);
        assert_near(transformed_pixel(s, o, n * 55 / 100, n / 4), GREEN, 2);
        assert_near(transformed_pixel(s, o, n / 4, n * 3 / 4), BLUE, 2);
        assert_near(transformed_pixel(s, o, n - 1, n - 1), GREY, 2);
        o.width = o.height = 700;
    }
    o = options_of(100, 100, IMAGE_CONTAIN, IMAGE_PNG);
    o.background = 0x0a141e;
    assert_near(transformed_pixel(s, o, 50, 24), (struct rgb){10, 20, 30}, 0);
    assert_near(transformed_pixel(s, o, 10, 26), RED, 2);
    assert_near(transformed_pixel(s, o, 90, 73), GREY, 2);
    assert_near(transformed_pixel(s, o, 50, 76), (struct rgb){10, 20, 30}, 0);
    o.fit = IMAGE_FILL;
    assert_near(transformed_pixel(s, o, 5, 5), RED, 2);
    assert_near(transformed_pixel(s, o, 95, 5), GREEN, 2);
    assert_near(transformed_pixel(s, o, 5, 95), BLUE, 2);
}

/* Two pixels: cropping to whole source pixels would lose one of them. */
TEST(test_tiny_source_is_centred)
{
    VipsImage *parts[] = {draw_plain(1, 1, RED), draw_plain(1, 1, BLUE)}, *both;
    struct image_options o = options_of(100, 100, IMAGE_COVER, IMAGE_PNG);

    assert_int_equal(vips_arrayjoin(parts, &both, 2, NULL), 0);
    g_object_unref(parts[0]);
    g_object_unref(parts[1]);
    SAMPLE s = save_sample(both, ".png");
    assert_near(transformed_pixel(s, o, 2, 50), RED, 30);
    assert_near(transformed_pixel(s, o, 97, 50), BLUE, 30);
}

/* Something small at the very bottom right of a large picture survives a strong reduction. */
TEST(test_strong_reduction)
{
    static const char *const suffixes[] = {".jpg[Q=95]", ".png", ".tif", ".webp"};

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        SAMPLE s = save_sample(draw_quarters(3998, 2002), suffixes[i]);
        struct image_options o = options_of(40, 20, IMAGE_FILL, IMAGE_PNG);
        CLEANUP(image_result_done) struct image_result r = {0};

        transform_ok(s, &o, &r);
        assert_near(pixel_at(r.data, r.len, 0, 0), RED, 4);
        assert_near(pixel_at(r.data, r.len, 18, 8), RED, 6);
        assert_near(pixel_at(r.data, r.len, 21, 8), GREEN, 6);
        assert_near(pixel_at(r.data, r.len, 18, 11), BLUE, 6);
        assert_near(pixel_at(r.data, r.len, 39, 19), GREY, 4);
    }
}

TEST(test_red_stays_red)
{
    static const enum image_format formats[] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_AVIF};
    static const char *const magic[] = {"\xff\xd8\xff", "\x89PNG", "RIFF", "ftypavif"};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_plain(300, 200, RED), ".png");
        struct image_options o = options_of(64, 64, IMAGE_COVER, formats[i]);
        CLEANUP(image_result_done) struct image_result r = {0};

        transform_ok(s, &o, &r);
        assert_memory_equal(r.data + (formats[i] == IMAGE_AVIF ? 4 : 0), magic[i],
                            strlen(magic[i]));
        assert_int_equal(image_sniff(bytes_of(r.data, r.len)), formats[i]);
        assert_near(pixel_at(r.data, r.len, 32, 32), RED, 6);
        assert_true(r.stages.decode > 0 && r.stages.transform > 0 && r.stages.encode > 0);
    }
}

TEST(test_input_formats)
{
    static const char *const suffixes[] = {
        ".jpg",
        ".jpg[interlace]",
        ".png",
        ".png[interlace]",
        ".png[palette]",
        ".webp",
        ".webp[lossless]",
        ".gif",
        ".tif",
        ".tif[compression=lzw,predictor=horizontal]",
        ".tif[compression=jpeg,tile]",
        ".tif[bigtiff]",
        ".heic",
        ".avif",
    };
    struct image_options o = options_of(50, 50, IMAGE_FILL, IMAGE_PNG);

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        if (!can_make(suffixes[i]))
            continue;
        SAMPLE s = save_sample(draw_quarters(128, 64), suffixes[i]);

        assert_near(transformed_pixel(s, o, 5, 5), RED, 12);
        assert_near(transformed_pixel(s, o, 45, 5), GREEN, 12);
        assert_near(transformed_pixel(s, o, 5, 45), BLUE, 12);
        assert_near(transformed_pixel(s, o, 45, 45), GREY, 12);
    }
}

TEST(test_first_frame)
{
    static const char *const suffixes[] = {".gif", ".webp", ".tif"};

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        VipsImage *frames[] = {draw_plain(20, 20, RED), draw_plain(20, 20, BLUE)}, *roll, *copy;
        char suffix[64];

        assert_int_equal(vips_arrayjoin(frames, &roll, 2, "across", 1, NULL), 0);
        assert_int_equal(vips_copy(roll, &copy, NULL), 0);
        g_object_unref(roll);
        g_object_unref(frames[0]);
        g_object_unref(frames[1]);
        vips_image_set_int(copy, VIPS_META_PAGE_HEIGHT, 20);
        snprintf(suffix, sizeof(suffix), "%s", suffixes[i]);
        SAMPLE s = save_sample(copy, suffix);
        struct image_header h;
        struct error err = {0};

        assert_true(image_probe(sample_bytes(s), &test_limits, &h, &err));
        assert_int_equal(h.pages, 2);
        assert_int_equal(h.height, 20);
        assert_near(transformed_pixel(s, options_of(20, 20, IMAGE_FILL, IMAGE_PNG), 10, 10), RED,
                    8);
    }
}

static void assert_same_bytes(struct sample s, const struct image_options *o,
                              const struct image_result *r)
{
    CLEANUP(image_result_done) struct image_result again = {0};

    transform_ok(s, o, &again);
    assert_int_equal(again.len, r->len);
    assert_memory_equal(again.data, r->data, r->len);
}

TEST(test_deterministic)
{
    static const enum image_format formats[] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_AVIF};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_noise(300, 200), ".jpg");
        struct image_options o = options_of(0, 0, IMAGE_COVER, formats[i]);
        CLEANUP(image_result_done) struct image_result r = {0};

        transform_ok(s, &o, &r);
        for (int k = 0; k < 3; k++)
            assert_same_bytes(s, &o, &r);
    }
}

TEST(test_quality)
{
    static const enum image_format formats[] = {IMAGE_JPEG, IMAGE_WEBP, IMAGE_AVIF};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_noise(100, 100), ".png");
        size_t len[3];

        for (int k = 0; k < 3; k++) {
            struct image_options o = options_of(100, 100, IMAGE_FILL, formats[i]);
            CLEANUP(image_result_done) struct image_result r = {0};

            o.quality = (int[]){1, 50, 95}[k];
            transform_ok(s, &o, &r);
            len[k] = r.len;
        }
        assert_true(len[0] < len[1] && len[1] < len[2]);
    }
}

TEST_MAIN(start_images, stop_images)
