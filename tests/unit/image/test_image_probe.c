#include "test_image_builders.h"

#include "base/clock.h"

#include <string.h>

static enum error_code probe(const struct builder *b, struct image_header *ret)
{
    struct error err = {0};

    if (image_probe(bytes_of(b->data, b->len), &test_limits, ret, &err))
        return ERROR_NONE;
    assert_true(err.message[0] != '\0');
    return err.code;
}

/* --- tests --- */

TEST(test_empty)
{
    struct image_header h;
    struct error err = {0};

    assert_fails(err, ERROR_UNSUPPORTED_MEDIA,
                 image_probe(bytes_of(NULL, 0), &test_limits, &h, &err));
    assert_non_null(strstr(err.message, "0 bytes"));
}

static void build_bomb(struct builder *b, int kind, int side)
{
    uint64_t edge = (uint64_t)side - 1;

    switch (kind) {
    case 0:
        build_png(b, (uint32_t)side, (uint32_t)side, 8, 2);
        break;
    case 1:
        build_jpeg(b, 0xc0, side, side, 3, true);
        build_jpeg_scans(b, 3, 1);
        break;
    case 2:
        build_gif(b, side, side, 1);
        break;
    case 3:
        build_webp(b, "VP8X", edge << 32 | edge << 56, 8);
        b->data[28] = (uint8_t)(edge >> 8);
        b->data[29] = (uint8_t)(edge >> 16);
        break;
    case 4:
        build_tiff(b, (uint32_t)side, (uint32_t)side, 3, 1, true);
        break;
    default:
        build_tiff(b, (uint32_t)side, (uint32_t)side, 3, 1, false);
    }
}

TEST(test_bombs)
{
    for (int kind = 0; kind < 6; kind++) {
        struct builder bomb = {0}, fine = {0};
        struct image_header h;
        double start = clock_monotonic_s();

        build_bomb(&bomb, kind, 60000);
        assert_int_equal(probe(&bomb, &h), ERROR_TOO_LARGE);
        assert_true(clock_monotonic_s() - start < 0.010);

        build_bomb(&fine, kind, 1000);
        assert_int_equal(probe(&fine, &h), ERROR_NONE);
        assert_int_equal(h.width, 1000);
        assert_int_equal(h.height, 1000);
        assert_int_equal(h.pages, 1);
    }
}

TEST(test_pixel_limit_is_exact)
{
    struct image_header h;
    struct builder fits = {0}, over = {0};

    build_png(&fits, 10000, 5000, 8, 2);
    build_png(&over, 10000, 5001, 8, 2);
    assert_int_equal(probe(&fits, &h), ERROR_NONE);
    assert_int_equal(probe(&over, &h), ERROR_TOO_LARGE);
}

TEST(test_huge_numbers_do_not_wrap)
{
    struct image_header h;
    struct builder png = {0}, tiff = {0}, zero = {0};

    build_png(&png, 0x7fffffff, 0x7fffffff, 16, 6);
    assert_int_equal(probe(&png, &h), ERROR_TOO_LARGE);
    build_tiff(&tiff, 0x7fffffff, 0x7fffffff, 5, 20, false);
    assert_int_equal(probe(&tiff, &h), ERROR_TOO_LARGE);
    build_png(&zero, 0, 10, 8, 2);
    assert_int_equal(probe(&zero, &h), ERROR_BAD_IMAGE);
}

/* Limits are for what is decoded: the first of them. */
TEST(test_pages_cost_nothing)
{
    struct image_header h;
    struct builder gif = {0}, tiff = {0};

    build_gif(&gif, 1000, 1000, 51);
    assert_int_equal(probe(&gif, &h), ERROR_NONE);
    assert_int_equal(h.pages, 51);
    build_tiff(&tiff, 5000, 5000, 1, 7, true);
    assert_int_equal(probe(&tiff, &h), ERROR_NONE);
    assert_int_equal(h.pages, 7);
}

TEST(test_tiff_loop_and_bands)
{
    struct image_header h;
    struct builder loop = {0}, bands = {0}, five = {0}, short_file = {0};

    build_tiff(&loop, 10, 10, 3, 1, false);
    loop.data[loop.len - 4] = 8; /* the next directory is the first one */
    assert_int_equal(probe(&loop, &h), ERROR_NONE);
    build_tiff(&bands, 10, 10, 17, 1, false);
    assert_int_equal(probe(&bands, &h), ERROR_UNSUPPORTED_MEDIA);
    build_tiff(&five, 10, 10, 5, 1, false);
    assert_int_equal(probe(&five, &h), ERROR_NONE);
    build_tiff(&short_file, 10, 10, 3, 1, false);
    short_file.len -= 5;
    assert_int_equal(probe(&short_file, &h), ERROR_BAD_IMAGE);
}

TEST(test_jpeg_scans)
{
    struct image_header h;
    struct builder most = {0}, over = {0}, none = {0};

    build_jpeg(&most, 0xc2, 100, 80, 3, true);
    build_jpeg_scans(&most, 3, 100);
    assert_int_equal(probe(&most, &h), ERROR_NONE);
    assert_true(h.progressive);
    assert_int_equal(h.width, 100);
    assert_int_equal(h.height, 80);
    build_jpeg(&over, 0xc2, 100, 80, 3, true);
    build_jpeg_scans(&over, 3, 101);
    assert_int_equal(probe(&over, &h), ERROR_BAD_IMAGE);
    build_jpeg(&none, 0xc0, 100, 80, 3, true);
    PUT(&none, "\xff\xd9");
    assert_int_equal(probe(&none, &h), ERROR_BAD_IMAGE);
}

TEST(test_jpeg_variants)
{
    static const struct {
        int marker, components;
        enum error_code code;
    } cases[] = {
        {0xc0, 1, ERROR_NONE},      {0xc1, 3, ERROR_NONE},      {0xc2, 4, ERROR_NONE},
        {0xc9, 3, ERROR_NONE},      {0xc3, 3, ERROR_BAD_IMAGE}, {0xc5, 3, ERROR_BAD_IMAGE},
        {0xcb, 3, ERROR_BAD_IMAGE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct builder b = {0};
        struct image_header h;

        build_jpeg(&b, cases[i].marker, 16, 16, cases[i].components, false);
        build_jpeg_scans(&b, cases[i].components, 1);
        assert_int_equal(probe(&b, &h), cases[i].code);
        b.len -= 2; /* no end marker */
        assert_int_equal(probe(&b, &h), ERROR_BAD_IMAGE);
    }
}

/* 256 MiB: a baseline JPEG within the pixels is fine; progressive 4:2:0 costs 3 bytes a pixel,
 * 4:4:4 6 bytes, CMYK 7. Several scans of one component each need the coefficients as well. */
TEST(test_jpeg_memory)
{
    static const struct {
        int marker, height, components, scan_components;
        bool subsampled, fits;
    } cases[] = {
        {0xc0, 11000, 3, 3, false, true}, {0xc2, 8800, 3, 3, true, true},
        {0xc2, 8900, 3, 3, true, false},  {0xc2, 4400, 3, 3, false, true},
        {0xc2, 4500, 3, 3, false, false}, {0xc0, 4400, 3, 1, false, true},
        {0xc0, 4500, 3, 1, false, false}, {0xc0, 3700, 4, 4, false, true},
        {0xc0, 3800, 4, 4, false, false},
    };
    const struct image_limits limits = {110000000, 268435456};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct builder b = {0};
        struct image_header h;
        struct error err = {0};

        build_jpeg(&b, cases[i].marker, 10000, cases[i].height, cases[i].components,
                   cases[i].subsampled);
        build_jpeg_scans(&b, cases[i].scan_components, 1);
        assert_int_equal(image_probe(bytes_of(b.data, b.len), &limits, &h, &err), cases[i].fits);
        if (!cases[i].fits)
            assert_int_equal(err.code, ERROR_TOO_LARGE);
    }
}

/* What a decode takes of the budget, for which it waits before anything is decoded. */
TEST(test_share)
{
    static const struct {
        const char *suffix;
        int64_t memory;
    } cases[] = {
        {".jpg", 64 * 200 * 3},
        {".jpg[interlace,subsample_mode=off]", 2 * 200 * 104 * 3 + 64 * 200 * 3},
        {".png", 200 * 100 * 3},
        {".avif", 200 * 100 * 10},
    };
    static const uint8_t headless[] = "\0\0\0\x18"
                                      "ftypheic\0\0\0\0mif1heic";
    struct image_cost cost;
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        SAMPLE s = save_sample(draw_quarters(200, 100), cases[i].suffix);

        assert_true(image_precheck(sample_bytes(s), NULL, &test_limits, &cost, &err));
        if (cost.memory != cases[i].memory)
            fail_msg("%s: %lld bytes", cases[i].suffix, (long long)cost.memory);
    }
    assert_true(image_precheck(bytes_of(headless, 24), NULL, &test_limits, &cost, &err));
    assert_int_equal(cost.memory, test_limits.max_decode_bytes);
}

TEST(test_png_memory)
{
    struct image_header h;
    struct builder eight = {0}, sixteen = {0};

    build_png(&eight, 7000, 7000, 8, 6);
    assert_int_equal(probe(&eight, &h), ERROR_NONE);
    assert_int_equal(h.bands, 4);
    build_png(&sixteen, 7000, 7000, 16, 6);
    assert_int_equal(probe(&sixteen, &h), ERROR_TOO_LARGE);
}

static int64_t cut_out_share(int width, int height, const struct image_options *asked)
{
    const struct image_limits limits = {110000000, 536870912};
    struct image_options options = *asked;
    struct image_cost alone, cost;
    struct builder b = {0};
    struct error err = {0};

    build_jpeg(&b, 0xc0, width, height, 3, true);
    build_jpeg_scans(&b, 3, 1);
    assert_true(image_precheck(bytes_of(b.data, b.len), &options, &limits, &alone, &err));
    assert_true(image_options_set(&options, "remove_background", "1", &err));
    assert_true(image_precheck(bytes_of(b.data, b.len), &options, &limits, &cost, &err));
    return cost.memory - alone.memory;
}

/* The picture, as small as serves, its mask, and the result. Cameras store pictures turned. */
TEST(test_share_of_a_cut_out)
{
    const struct image_options small = options_of(256, 256, IMAGE_COVER, IMAGE_PNG);
    const struct image_options tall = options_of(1480, 1480, IMAGE_COVER, IMAGE_PNG);
    const struct image_options flat = options_of(1480, 20, IMAGE_COVER, IMAGE_PNG);
    const struct image_options same = options_of(0, 0, IMAGE_NONE, IMAGE_WEBP);

    assert_true(cut_out_share(60000, 1480, &tall) >= 6LL * 60000 * 1480);
    assert_true(cut_out_share(60000, 1480, &flat) >= 6LL * 60000 * 1480);
    assert_int_equal(cut_out_share(4000, 4000, &same), (6 + 4) * 4000 * 4000);
    assert_true(cut_out_share(4000, 3000, &small) < 4 << 20);
    assert_true(cut_out_share(8000, 6000, &small) < 4 << 20);
}

static void build_chunk(struct builder *b, const char *type, const char *data, size_t len)
{
    put_number(b, len, 4, true);
    put(b, type, 4);
    put(b, data, len);
    PUT(b, "\0\0\0\0");
}

/* A colour that stands for transparency becomes a channel; read only where it may be. */
TEST(test_png_clear_colour)
{
    static const struct {
        int depth, type;
        const char *chunk, *after;
        int bands;
    } cases[] = {
        {8, 0, "tRNS", "IDAT", 2}, {16, 0, "tRNS", "IDAT", 2}, {1, 0, "tRNS", "IDAT", 2},
        {8, 2, "tRNS", "IDAT", 4}, {8, 3, "tRNS", "IDAT", 4},  {8, 4, "tRNS", "IDAT", 2},
        {8, 6, "tRNS", "IDAT", 4}, {8, 0, "IDAT", "tRNS", 1},  {8, 0, "tEXt", "IDAT", 1},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct image_header h;
        struct builder png = {0};

        build_png(&png, 1000, 1000, cases[i].depth, cases[i].type);
        build_chunk(&png, "gAMA", "\0\0\0\0", 4);
        build_chunk(&png, cases[i].chunk, "\0\1\0\1\0\1", 6);
        build_chunk(&png, cases[i].after, "\0\1\0\1\0\1", 6);
        assert_int_equal(probe(&png, &h), ERROR_NONE);
        assert_int_equal(h.bands, cases[i].bands);
        assert_int_equal(h.memory, 1000000 * cases[i].bands * (cases[i].depth == 16 ? 2 : 1));
    }
}

/* Every cut of real files: the parsers stay inside (asan) and never invent a larger picture. */
TEST(test_cut_anywhere)
{
    static const char *const suffixes[] = {".jpg", ".jpg[interlace]", ".png",
                                           ".gif", ".webp",           ".webp[lossless]",
                                           ".tif", ".tif[bigtiff]",   ".avif"};

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        SAMPLE s = save_sample(draw_quarters(40, 24), suffixes[i]);
        size_t step = s.len > 2000 ? 7 : 1;

        for (size_t len = 0; len <= s.len; len += step) {
            CLEANUP_FREE uint8_t *copy = malloc(len + 1); /* so that asan sees the end */
            struct image_header h;
            struct error err = {0};

            memcpy(copy, s.data, len);
            if (image_probe(bytes_of(copy, len), &test_limits, &h, &err)) {
                assert_int_equal(h.width, 40);
                assert_int_equal(h.height, 24);
            } else {
                assert_true(err.code == ERROR_BAD_IMAGE || err.code == ERROR_UNSUPPORTED_MEDIA);
            }
        }
    }
}

TEST(test_real_headers)
{
    static const struct {
        const char *suffix;
        enum image_format format;
        int bands;
        bool progressive;
    } cases[] = {
        {".jpg", IMAGE_JPEG, 3, false},  {".jpg[interlace]", IMAGE_JPEG, 3, true},
        {".png", IMAGE_PNG, 3, false},   {".gif", IMAGE_GIF, 4, false},
        {".webp", IMAGE_WEBP, 3, false}, {".webp[lossless]", IMAGE_WEBP, 3, false},
        {".tif", IMAGE_TIFF, 3, false},  {".tif[bigtiff,tile]", IMAGE_TIFF, 3, false},
        {".heic", IMAGE_HEIC, 3, false}, {".avif", IMAGE_AVIF, 3, false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (!can_make(cases[i].suffix))
            continue;
        SAMPLE s = save_sample(draw_quarters(66, 34), cases[i].suffix);
        struct image_header h;
        struct error err = {0};

        if (!image_probe(sample_bytes(s), &test_limits, &h, &err))
            fail_msg("%s: %s", cases[i].suffix, err.message);
        assert_int_equal(h.format, cases[i].format);
        assert_int_equal(h.width, 66);
        assert_int_equal(h.height, 34);
        assert_int_equal(h.pages, 1);
        assert_int_equal(h.bands, cases[i].bands);
        assert_int_equal(h.progressive, cases[i].progressive);
    }
}

/* The size of an AVIF is in its `ispe` box. */
TEST(test_avif_bomb)
{
    SAMPLE s = save_sample(draw_quarters(66, 34), ".avif");
    uint8_t *ispe = memmem(s.data, s.len, "ispe", 4);
    struct image_header h;
    struct error err = {0};
    double start;

    assert_non_null(ispe);
    memcpy(ispe + 8, "\0\0\x40\0\0\0\x40\0", 8); /* 16384 x 16384 */
    start = clock_monotonic_s();
    assert_fails(err, ERROR_TOO_LARGE, image_probe(sample_bytes(s), &test_limits, &h, &err));
    assert_true(clock_monotonic_s() - start < 0.010);

    memcpy(ispe + 8, "\0\0\xea\x60\0\0\xea\x60", 8); /* libheif itself refuses this one */
    assert_false(image_probe(sample_bytes(s), &test_limits, &h, &err));
    assert_true(err.code == ERROR_TOO_LARGE || err.code == ERROR_BAD_IMAGE);
}

static bool is_large(const char *suffix, int side, const struct image_options *options)
{
    SAMPLE s = save_sample(draw_quarters(side, side), suffix);
    struct error err = {0};
    struct image_cost cost;

    if (!image_precheck(sample_bytes(s), options, &test_limits, &cost, &err))
        fail_msg("%s: %s", suffix, err.message);
    return cost.large;
}

TEST(test_what_takes_long)
{
    struct image_options o = image_options_default();

    assert_false(is_large(".jpg", 500, &o));
    assert_false(is_large(".png", 500, &o));
    assert_false(is_large(".jpg", 1500, NULL));
    assert_true(is_large(".jpg", 3000, NULL));
    assert_true(is_large(".jpg[interlace]", 1500, &o));
    assert_true(is_large(".png", 1500, &o));
    /* what is asked for counts, too */
    o.width = 2000;
    assert_true(is_large(".jpg", 500, &o));
    o.fit = IMAGE_INSIDE; /* never enlarges */
    assert_false(is_large(".jpg", 500, &o));
    o.fit = IMAGE_COVER;
    o.width = o.height = 500;
    assert_false(is_large(".jpg", 500, &o));
    o.format = IMAGE_AVIF;
    assert_true(is_large(".jpg", 500, &o));
}

TEST_MAIN(start_images, stop_images)
