/* Operations on a request's picture: their options, their place between decoding and fitting, and
 * what they may cost. */
#include "test_image_builders.h"

#include "image/ops/operations.h"

static struct image_options options_with(const char *name, const char *value)
{
    struct image_options o = options_of(0, 0, IMAGE_NONE, IMAGE_PNG);
    struct error err = {0};

    if (!image_options_set(&o, name, value, &err))
        fail_msg("%s", err.message);
    return o;
}

static void assert_text_ends(const struct image_options *o, const char *end)
{
    char text[IMAGE_OPTIONS_TEXT_MAX];
    const char *found;

    image_options_text(o, text);
    found = strstr(text, "background=ffffff\n");
    assert_non_null(found);
    assert_string_equal(found + strlen("background=ffffff\n"), end);
}

/* In the order of application, whatever the order in which they are asked for. */
TEST(test_text)
{
    static const char *const turns[][2] = {{"0", ""},
                                           {"360", ""},
                                           {"-720", ""},
                                           {"90", "rotate=90\n"},
                                           {"-90", "rotate=270\n"},
                                           {"450", "rotate=90\n"},
                                           {"1", "rotate=1\n"},
                                           {"-1000000000", "rotate=80\n"}};
    struct image_options o = image_options_default();
    struct error err = {0};

    assert_text_ends(&o, "");
    for (size_t i = 0; i < ARRAY_SIZE(turns); i++) {
        o = options_with("rotate", turns[i][0]);
        assert_text_ends(&o, turns[i][1]);
        assert_int_equal(operations_asked(&o), *turns[i][1] != '\0');
    }
    o = options_with("rotate", "-1");
    assert_true(image_options_set(&o, "mean", "31", &err));
    assert_true(image_options_set(&o, "median", "15", &err));
    assert_text_ends(&o, "median=15\nmean=31\nrotate=359\n");
}

TEST(test_none_takes_no_size)
{
    struct image_options o = options_of(0, 10, IMAGE_NONE, IMAGE_JPEG);
    struct error err = {0};

    assert_fails(err, ERROR_BAD_REQUEST, image_options_check(&o, &err));
    assert_memory_equal(err.message, "height: ", 8);
    o.height = 0;
    assert_true(image_options_check(&o, &err));
}

TEST(test_none_keeps_the_size)
{
    SAMPLE s = save_sample(draw_quarters(300, 200), ".png");
    struct image_options o = options_of(0, 0, IMAGE_NONE, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result r = {0};

    transform_ok(s, &o, &r);
    assert_int_equal(r.width, 300);
    assert_int_equal(r.height, 200);
    assert_near(pixel_at(r.data, r.len, 149, 99), RED, 0);
    assert_near(pixel_at(r.data, r.len, 150, 99), GREEN, 0);
}

/* A photograph for its size: more than a result may have, named after what asked for it. */
TEST(test_none_has_the_same_limits)
{
    SAMPLE s = save_sample(draw_plain(4100, 4000, GREY), ".jpg");
    struct image_options o = options_with("median", "3");
    CLEANUP(image_result_done) struct image_result r = {0};
    struct error err = {0};

    assert_fails(err, ERROR_BAD_REQUEST, transform(sample_bytes(s), &o, &r, &err));
    assert_memory_equal(err.message, "fit: ", 5);
}

/* RED GREEN / BLUE GREY, turned clockwise by a quarter: BLUE RED / GREY GREEN. */
static void assert_turned(struct sample s, struct image_options o)
{
    CLEANUP(image_result_done) struct image_result r = {0};

    transform_ok(s, &o, &r);
    assert_int_equal(r.width, 40);
    assert_int_equal(r.height, 60);
    assert_near(pixel_at(r.data, r.len, 5, 5), BLUE, 6);
    assert_near(pixel_at(r.data, r.len, 34, 5), RED, 6);
    assert_near(pixel_at(r.data, r.len, 5, 54), GREY, 6);
    assert_near(pixel_at(r.data, r.len, 34, 54), GREEN, 6);
}

static VipsImage *oriented(VipsImage *image, int orientation)
{
    VipsImage *out = NULL;

    assert_int_equal(vips_copy(image, &out, NULL), 0);
    g_object_unref(image);
    vips_image_set_int(out, VIPS_META_ORIENTATION, orientation);
    return out;
}

/* After EXIF orientation, by both ways of decoding, with and without another operation. */
TEST(test_rotate_the_upright_picture)
{
    static const char *const suffixes[] = {".jpg[Q=100,subsample-mode=off]", ".png",
                                           ".webp[lossless]"};
    struct image_options o = options_with("rotate", "90");
    struct error err = {0};

    for (int pass = 0; pass < 4; pass++) {
        test_scratch->only_libvips = pass % 2 == 1;
        for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
            SAMPLE upright = save_sample(draw_quarters(60, 40), suffixes[i]);

            assert_turned(upright, o);
        }
        /* stored so that viewers turn it by half */
        VipsImage *half = NULL, *quarters = draw_quarters(60, 40);
        assert_int_equal(vips_rot(quarters, &half, VIPS_ANGLE_D180, NULL), 0);
        g_object_unref(quarters);
        SAMPLE stored = save_sample(oriented(half, 3), suffixes[0]);
        assert_turned(stored, o);
        if (pass == 1)
            assert_true(image_options_set(&o, "median", "3", &err));
    }
    test_scratch->only_libvips = false;
}

/* The side that orientation exchanges is exchanged before. */
TEST(test_orientation_that_swaps)
{
    VipsImage *quarters = draw_quarters(60, 40), *turned = NULL;
    struct image_options o = options_with("rotate", "90");

    assert_int_equal(vips_rot(quarters, &turned, VIPS_ANGLE_D270, NULL), 0);
    g_object_unref(quarters);
    SAMPLE s = save_sample(oriented(turned, 6), ".jpg[Q=100,subsample-mode=off]");
    assert_turned(s, o);
}

/* Before the fit: what is asked for is the size of the turned picture. */
TEST(test_fit_follows)
{
    SAMPLE s = save_sample(draw_quarters(600, 400), ".jpg[Q=100,subsample-mode=off]");
    struct image_options o = options_with("rotate", "90");
    CLEANUP(image_result_done) struct image_result r = {0};

    o.fit = IMAGE_INSIDE;
    o.width = 40;
    o.height = 60;
    assert_turned(s, o);
    o.width = 0;
    transform_ok(s, &o, &r);
    assert_int_equal(r.width, 40);
    assert_int_equal(r.height, 60);
}

/* A speck in one pixel goes away at full resolution; a mean of it would stay. */
TEST(test_median_before_the_fit)
{
    uint8_t pixels[64 * 64 * 3];
    struct image_options o = options_of(16, 16, IMAGE_FILL, IMAGE_PNG);
    struct error err = {0};
    VipsImage *image;

    memset(pixels, 100, sizeof(pixels));
    memset(pixels + (32 * 64 + 32) * 3, 255, 3);
    image = vips_image_new_from_memory_copy(pixels, sizeof(pixels), 64, 64, 3, VIPS_FORMAT_UCHAR);
    SAMPLE s = save_sample(image, ".png");
    assert_true(transformed_pixel(s, o, 8, 8).r > 100);
    assert_true(image_options_set(&o, "median", "3", &err));
    assert_near(transformed_pixel(s, o, 8, 8), (struct rgb){100, 100, 100}, 0);
}

/* Transparency is laid on the background first, as without operations; the corners of a turned
 * picture show the background, too. */
TEST(test_background)
{
    VipsImage *plain = draw_plain(100, 100, RED), *half = NULL;
    struct image_options o = options_with("rotate", "45");
    CLEANUP(image_result_done) struct image_result r = {0};

    assert_int_equal(vips_bandjoin_const1(plain, &half, 0, NULL), 0);
    g_object_unref(plain);
    SAMPLE clear = save_sample(half, ".png");
    SAMPLE opaque = save_sample(draw_plain(100, 100, RED), ".png");
    o.background = 0x0000ff;
    assert_near(transformed_pixel(opaque, o, 0, 0), BLUE, 0);
    assert_near(transformed_pixel(opaque, o, 70, 70), RED, 0);
    assert_near(transformed_pixel(clear, o, 70, 70), BLUE, 0);
    transform_ok(opaque, &o, &r);
    assert_int_equal(r.width, 142);
    assert_int_equal(r.height, 142);
}

/* --- limits, by the header alone --- */

static void check_refused(const struct builder *b, const struct image_options *o, int64_t memory,
                          const char *names)
{
    struct image_limits limits = {test_limits.max_pixels, memory};
    struct image_input input = {.data = bytes_of(b->data, b->len), .limits = &limits};
    struct image_result r = {0};
    struct error err = {0};
    struct image_cost cost;

    assert_fails(err, ERROR_TOO_LARGE, image_precheck(input.data, o, &limits, &cost, &err));
    assert_memory_equal(err.message, names, strlen(names));
    err = (struct error){0};
    assert_fails(err, ERROR_TOO_LARGE, image_transform(test_scratch, &input, o, &r, &err));
    assert_memory_equal(err.message, names, strlen(names));
}

TEST(test_limits_of_pixels)
{
    const struct image_limits roomy = {test_limits.max_pixels, 1 << 30};
    struct builder wide = {0}, long_side = {0};
    struct image_options o = options_with("rotate", "45");
    struct error err = {0};
    struct image_cost cost;

    build_png(&wide, 30000, 1000, 8, 2); /* 30 million; turned by 45 degrees, 480 */
    check_refused(&wide, &o, 1 << 30, "rotate: ");
    o = options_with("rotate", "90");
    assert_true(image_precheck(bytes_of(wide.data, wide.len), &o, &roomy, &cost, &err));
    assert_true(cost.large);
    build_png(&long_side, 70000, 10, 8, 2);
    check_refused(&long_side, &o, 1 << 30, "rotate: ");
    o = options_of(10, 10, IMAGE_COVER, IMAGE_JPEG);
    assert_true(
        image_precheck(bytes_of(long_side.data, long_side.len), &o, &test_limits, &cost, &err));
}

/* The decoder's estimate, 3 bytes a pixel, and two pictures of 3 bytes each. */
TEST(test_limits_of_memory)
{
    struct builder b = {0};
    struct image_options o = options_with("mean", "3");
    struct image_limits limits = {test_limits.max_pixels, 9 * 1000 * 1000};
    struct error err = {0};
    struct image_cost cost;

    build_png(&b, 1000, 1000, 8, 2);
    assert_true(image_precheck(bytes_of(b.data, b.len), &o, &limits, &cost, &err));
    check_refused(&b, &o, limits.max_decode_bytes - 1, "operations on the whole image");
    o = options_of(0, 0, IMAGE_COVER, IMAGE_JPEG);
    limits.max_decode_bytes = 3 * 1000 * 1000;
    assert_true(image_precheck(bytes_of(b.data, b.len), &o, &limits, &cost, &err));
}

/* What an operation takes counts where thumbnails are told from what takes long. */
TEST(test_operations_take_long)
{
    struct builder b = {0};
    struct image_options o = options_of(0, 0, IMAGE_COVER, IMAGE_JPEG);
    struct error err = {0};
    struct image_cost cost;

    build_png(&b, 600, 600, 8, 2);
    assert_true(image_precheck(bytes_of(b.data, b.len), &o, &test_limits, &cost, &err));
    assert_false(cost.large);
    assert_true(image_options_set(&o, "median", "9", &err));
    assert_true(image_precheck(bytes_of(b.data, b.len), &o, &test_limits, &cost, &err));
    assert_true(cost.large);
}

TEST(test_memory_is_given_back)
{
    SAMPLE s = save_sample(draw_noise(1500, 1000), ".jpg");
    struct image_options o = options_with("rotate", "30");
    CLEANUP(image_result_done) struct image_result r = {0};

    transform_ok(s, &o, &r);
    assert_int_equal(test_scratch->full[0].size, 0);
    assert_int_equal(test_scratch->full[1].size, 0);
}

TEST(test_cancelled)
{
    static const atomic_bool cancelled = true;
    SAMPLE s = save_sample(draw_noise(50, 50), ".png");
    struct image_options o = options_with("median", "9");
    struct image_input input = test_input(sample_bytes(s));
    struct image_result r = {0};
    struct error err = {0};

    input.cancelled = &cancelled;
    assert_fails(err, ERROR_DEADLINE, image_transform(test_scratch, &input, &o, &r, &err));
}

/* ---- channels that stay */

/* 60 x 40: RED GREEN / BLUE GREY, and so transparent everywhere. */
static VipsImage *draw_transparent(int alpha)
{
    VipsImage *quarters = draw_quarters(60, 40), *out = NULL;

    assert_int_equal(vips_bandjoin_const1(quarters, &out, alpha, NULL), 0);
    g_object_unref(quarters);
    return out;
}

static struct image_options kept(enum image_format format, const char *name, const char *value)
{
    struct image_options o = options_with(name, value);

    o.format = format;
    o.keep_channels = true;
    return o;
}

static void assert_kept(struct sample s, struct image_options o, int bands)
{
    CLEANUP(image_result_done) struct image_result r = {0};
    double *values = NULL;
    int n = 0;

    transform_ok(s, &o, &r);
    VipsImage *image = vips_image_new_from_buffer(r.data, r.len, "", NULL);
    assert_non_null(image);
    assert_int_equal(vips_getpoint(image, &values, &n, 5, 5, NULL), 0);
    assert_int_equal(n, bands);
    if (o.format == IMAGE_PNG && bands == 4) { /* BLUE, not mixed with the background */
        assert_near((struct rgb){(int)values[0], (int)values[1], (int)values[2]}, BLUE, 0);
        assert_int_equal((int)values[3], 100);
    }
    g_free(values);
    g_object_unref(image);
}

TEST(test_channels_stay)
{
    SAMPLE rgba = save_sample(draw_transparent(100), ".png");
    SAMPLE turned = save_sample(oriented(draw_transparent(100), 6), ".webp[lossless]");
    SAMPLE rgb = save_sample(draw_quarters(60, 40), ".png");
    VipsImage *one = NULL, *quarters = draw_quarters(60, 40);

    assert_kept(rgba, kept(IMAGE_PNG, "rotate", "90"), 4);
    assert_kept(turned, kept(IMAGE_PNG, "rotate", "0"), 4);
    assert_kept(rgba, kept(IMAGE_WEBP, "mean", "3"), 4);
    assert_kept(rgba, kept(IMAGE_JPEG, "mean", "3"), 3);
    assert_kept(rgb, kept(IMAGE_PNG, "mean", "3"), 3);
    assert_kept(rgba, options_with("rotate", "90"), 3); /* unless they are to stay */
    assert_int_equal(vips_extract_band(quarters, &one, 0, NULL), 0);
    g_object_unref(quarters);
    for (int i = 0; i < 2; i++) {
        g_object_ref(one);
        SAMPLE grey = save_sample(one, i == 0 ? ".png" : ".jpg");
        assert_kept(grey, kept(IMAGE_PNG, "mean", "3"), 1);
        assert_kept(grey, kept(IMAGE_PNG, "rotate", "0"), 1);
        assert_kept(grey, options_with("mean", "3"), 3);
    }
    g_object_unref(one);
}

/* ---- bare pixels */

static bool operate(const struct image_options *o, struct image_pixels *pixels,
                    struct image_pixels *ret, struct error *err)
{
    return image_operate_pixels(&(struct image_input){.threads = 1}, pixels, o, ret, err);
}

TEST(test_bare_pixels)
{
    uint8_t grey[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8}, pair[6] = {1, 2, 3, 4, 5, 6};
    static const uint8_t turned[9] = {2, 5, 8, 1, 4, 7, 0, 3, 6};
    static const uint8_t smooth[9] = {2, 2, 3, 3, 4, 4, 5, 5, 6};
    struct image_pixels one = {grey, {3, 3}, 1}, three = {pair, {2, 1}, 3}, ret;
    struct image_options turn = options_with("rotate", "270"), mean = options_with("mean", "3");
    struct error err = {0};

    assert_true(operate(&turn, &one, &ret, &err));
    assert_memory_equal(ret.data, turned, 9);
    free(ret.data);
    assert_true(operate(&mean, &one, &ret, &err));
    assert_memory_equal(ret.data, smooth, 9);
    free(ret.data);
    assert_true(operate(&turn, &three, &ret, &err));
    assert_int_equal(ret.size.width, 1);
    assert_int_equal(ret.size.height, 2);
    assert_int_equal(ret.bands, 3);
    assert_memory_equal(ret.data, ((uint8_t[]){4, 5, 6, 1, 2, 3}), 6);
    free(ret.data);

    struct image_options nothing = image_options_default();
    struct image_options cut = options_with("remove_background", "1");
    assert_fails(err, ERROR_INTERNAL, operate(&nothing, &one, &ret, &err));
    assert_fails(err, ERROR_INTERNAL, operate(&cut, &one, &ret, &err));
}

TEST_MAIN(start_images, stop_images)
