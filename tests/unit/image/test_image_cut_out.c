/* remove_background: what becomes of a picture and a mask. The masks here are drawn. */
#include "test_image_builders.h"

#include "image/ops/operations.h"

enum { SIDE = 16 };

static const struct image_size looked_at = {SIDE, SIDE};
static uint8_t left_half[SIDE * SIDE], half_through[SIDE * SIDE];

struct rgba {
    struct rgb colour;
    int alpha;
};

static struct rgba rgba_at(const struct image_result *r, int x, int y)
{
    VipsImage *image = vips_image_new_from_buffer(r->data, r->len, "", NULL);
    double *values = NULL;
    int n = 0;

    assert_non_null(image);
    assert_int_equal(image->Bands, 4);
    assert_int_equal(image->BandFmt, VIPS_FORMAT_UCHAR);
    assert_int_equal(vips_getpoint(image, &values, &n, x, y, NULL), 0);
    struct rgba c = {{(int)values[0], (int)values[1], (int)values[2]}, (int)values[3]};
    g_free(values);
    g_object_unref(image);
    return c;
}

static void assert_rgba(const struct image_result *r, int x, int y, struct rgb colour, int alpha)
{
    struct rgba is = rgba_at(r, x, y);

    if (abs(is.alpha - alpha) > 2)
        fail_msg("alpha at %d, %d is %d, not %d", x, y, is.alpha, alpha);
    assert_near(is.colour, colour, 3);
}

static struct image_options cut_options(int width, int height, enum image_fit fit,
                                        enum image_format format)
{
    struct image_options o = options_of(width, height, fit, format);
    struct error err = {0};

    assert_true(image_options_set(&o, "remove_background", "1", &err));
    return o;
}

static void begin(struct sample s, const struct image_options *o, uint8_t *rgb)
{
    const struct image_input input = test_input(sample_bytes(s));
    struct image_stages stages;
    struct error err = {0};

    if (!image_cut_begin(test_scratch, &input, o, looked_at, rgb, &stages, &err))
        fail_msg("%s", err.message);
    assert_true(stages.decode > 0 && stages.transform > 0);
}

static void cut_out(struct sample s, const struct image_options *o, const uint8_t *alpha,
                    struct image_result *ret)
{
    const struct image_mask mask = {alpha, looked_at};
    uint8_t rgb[3 * SIDE * SIDE];
    struct error err = {0};

    begin(s, o, rgb);
    if (!image_cut_finish(test_scratch, &mask, o, NULL, ret, &err))
        fail_msg("%s", err.message);
}

TEST(test_option)
{
    struct image_options o = image_options_default();
    struct error err = {0};
    char text[IMAGE_OPTIONS_TEXT_MAX];

    assert_true(image_options_set(&o, "remove_background", "1", &err));
    assert_true(image_options_set(&o, "rotate", "90", &err));
    assert_true(image_options_cut_out(&o));
    image_options_text(&o, text);
    assert_non_null(strstr(text, "background=ffffff\nrotate=90\nremove_background=1\n"));
    assert_fails(err, ERROR_BAD_REQUEST, image_options_set(&o, "remove_background", "yes", &err));
    assert_memory_equal(err.message, "remove_background: ", 19);
    assert_true(image_options_cut_out(&o));
    assert_true(image_options_set(&o, "remove_background", "0", &err));
    assert_false(image_options_cut_out(&o));
    image_options_text(&o, text);
    assert_null(strstr(text, "remove"));
    assert_true(image_options_set(&o, "remove_background", "", &err));
    assert_false(image_options_cut_out(&o));
}

/* It sees all of the picture, stretched. */
TEST(test_what_the_model_sees)
{
    SAMPLE s = save_sample(draw_quarters(300, 100), ".png");
    const struct image_options o = cut_options(40, 40, IMAGE_COVER, IMAGE_PNG);
    uint8_t rgb[3 * SIDE * SIDE];
    const struct rgb corners[] = {RED, GREEN, BLUE};

    begin(s, &o, rgb);
    const uint8_t *at[] = {rgb, rgb + 3 * (SIDE - 1), rgb + 3 * SIDE * (SIDE - 1)};
    for (size_t i = 0; i < ARRAY_SIZE(at); i++)
        assert_near((struct rgb){at[i][0], at[i][1], at[i][2]}, corners[i], 2);
}

TEST(test_alpha)
{
    static const enum image_format formats[] = {IMAGE_PNG, IMAGE_WEBP, IMAGE_AVIF};
    SAMPLE s = save_sample(draw_plain(160, 80, RED), ".png");

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        CLEANUP(image_result_done) struct image_result r = {0};
        const struct image_options o = cut_options(0, 0, IMAGE_NONE, formats[i]);

        if (!image_can_encode(formats[i]))
            continue;
        cut_out(s, &o, left_half, &r);
        assert_int_equal(image_sniff(bytes_of(r.data, r.len)), formats[i]);
        assert_int_equal(r.width, 160);
        assert_int_equal(r.height, 80);
        assert_int_equal(rgba_at(&r, 20, 40).alpha, 255);
        assert_near(rgba_at(&r, 20, 40).colour, RED, 6);
        assert_int_equal(rgba_at(&r, 140, 40).alpha, 0);
        assert_null(memmem(r.data, r.len, "EXIF", 4));
    }
}

/* Nothing of the background is left in the file, and an edge has the subject's colour. */
TEST(test_colours_are_straight)
{
    SAMPLE s = save_sample(draw_plain(80, 80, RED), ".png");
    const struct image_options whole = cut_options(0, 0, IMAGE_NONE, IMAGE_PNG);
    const struct image_options small = cut_options(20, 20, IMAGE_COVER, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result a = {0}, b = {0}, c = {0};

    cut_out(s, &whole, half_through, &a);
    assert_rgba(&a, 40, 40, RED, 128);
    cut_out(s, &small, half_through, &b);
    assert_rgba(&b, 10, 10, RED, 128);
    cut_out(s, &small, left_half, &c);
    assert_rgba(&c, 19, 10, (struct rgb){0, 0, 0}, 0);
    assert_rgba(&c, 2, 10, RED, 255);
}

TEST(test_jpeg_has_the_background)
{
    SAMPLE s = save_sample(draw_plain(160, 80, RED), ".png");
    struct image_options o = cut_options(80, 40, IMAGE_COVER, IMAGE_JPEG);
    CLEANUP(image_result_done) struct image_result r = {0}, through = {0};

    o.background = 0x0000ff;
    cut_out(s, &o, left_half, &r);
    assert_near(pixel_at(r.data, r.len, 10, 20), RED, 4);
    assert_near(pixel_at(r.data, r.len, 70, 20), BLUE, 4);
    cut_out(s, &o, half_through, &through);
    assert_near(pixel_at(through.data, through.len, 40, 20), (struct rgb){128, 0, 127}, 4);
}

/* The mask is of the whole picture, wherever the fit puts it. */
TEST(test_fit_follows)
{
    SAMPLE s = save_sample(draw_plain(400, 200, RED), ".png");
    const struct image_options cover = cut_options(40, 40, IMAGE_COVER, IMAGE_PNG);
    const struct image_options contain = cut_options(80, 80, IMAGE_CONTAIN, IMAGE_PNG);
    const struct image_options inside = cut_options(100, 0, IMAGE_INSIDE, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result a = {0}, b = {0}, c = {0};

    cut_out(s, &cover, left_half, &a);
    assert_rgba(&a, 10, 20, RED, 255);
    assert_int_equal(rgba_at(&a, 30, 20).alpha, 0);
    cut_out(s, &contain, left_half, &b);
    assert_int_equal(rgba_at(&b, 20, 5).alpha, 0); /* padding */
    assert_rgba(&b, 20, 40, RED, 255);
    assert_int_equal(rgba_at(&b, 60, 40).alpha, 0);
    cut_out(s, &inside, left_half, &c);
    assert_int_equal(c.width, 100);
    assert_int_equal(c.height, 50);
    assert_rgba(&c, 30, 25, RED, 255);
}

/* A large picture is worked on as small as serves, which must not show in the result's size. */
TEST(test_sizes_are_those_without)
{
    static const int sides[][2] = {{1999, 1333}, {1001, 7}, {97, 1997}};
    struct image_options o = options_of(0, 77, IMAGE_FILL, IMAGE_PNG);

    for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
        SAMPLE s = save_sample(draw_quarters(sides[i][0], sides[i][1]), ".jpg");
        const struct image_options cut = cut_options(0, 77, IMAGE_FILL, IMAGE_PNG);
        CLEANUP(image_result_done) struct image_result with = {0}, without = {0};

        transform_ok(s, &o, &without);
        cut_out(s, &cut, half_through, &with);
        assert_int_equal(with.width, without.width);
        assert_int_equal(with.height, without.height);
        assert_near(rgba_at(&with, 0, 0).colour, RED, 12);
    }
}

TEST(test_operations_come_before)
{
    SAMPLE s = save_sample(draw_quarters(120, 60), ".png");
    struct image_options o = cut_options(0, 0, IMAGE_NONE, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result r = {0};
    struct error err = {0};

    assert_true(image_options_set(&o, "rotate", "90", &err));
    cut_out(s, &o, left_half, &r);
    assert_int_equal(r.width, 60);
    assert_int_equal(r.height, 120);
    assert_rgba(&r, 10, 20, BLUE, 255); /* what was below on the left is above now */
    assert_int_equal(rgba_at(&r, 50, 20).alpha, 0);
}

static void assert_gone(const struct image_options *o)
{
    const struct image_mask mask = {left_half, looked_at};
    struct image_result r = {0};
    struct error err = {0};

    assert_fails(err, ERROR_UNAVAILABLE, image_cut_finish(test_scratch, &mask, o, NULL, &r, &err));
    assert_null(r.data);
}

/* No mask ever meets another's picture. */
TEST(test_steps_belong_together)
{
    SAMPLE s = save_sample(draw_plain(40, 40, RED), ".png");
    const struct image_options o = cut_options(0, 0, IMAGE_NONE, IMAGE_PNG);
    const struct image_options plain = options_of(20, 20, IMAGE_COVER, IMAGE_PNG);
    const struct image_input broken = test_input(bytes_from_str("\x89PNG\r\n\x1a\n"));
    CLEANUP(image_result_done) struct image_result r = {0}, between = {0}, none = {0};
    struct image_stages stages;
    struct error err = {0};
    uint8_t rgb[3 * SIDE * SIDE];

    assert_gone(&o);
    cut_out(s, &o, left_half, &r);
    assert_gone(&o);
    begin(s, &o, rgb);
    transform_ok(s, &plain, &between);
    assert_gone(&o);
    begin(s, &o, rgb);
    assert_false(image_cut_begin(test_scratch, &broken, &o, looked_at, rgb, &stages, &err));
    assert_gone(&o);
    assert_fails(err, ERROR_INTERNAL, transform(sample_bytes(s), &o, &none, &err));
}

TEST(test_precheck)
{
    struct image_options o = cut_options(64, 64, IMAGE_COVER, IMAGE_PNG);
    struct builder b = {.len = 0};
    struct error err = {0};
    struct image_cost cost;

    build_png(&b, 8000, 6000, 8, 2);
    /* it is worked on smaller; it takes long, whatever its size */
    assert_true(image_precheck(bytes_of(b.data, b.len), &o, &test_limits, &cost, &err));
    b.len = 0;
    build_png(&b, 10, 10, 8, 2);
    assert_true(image_precheck(bytes_of(b.data, b.len), &o, &test_limits, &cost, &err));
    assert_true(cost.large);
}

TEST(test_memory_is_given_back)
{
    SAMPLE s = save_sample(draw_noise(1200, 1000), ".jpg");
    const struct image_options o = cut_options(0, 0, IMAGE_NONE, IMAGE_WEBP);
    CLEANUP(image_result_done) struct image_result r = {0};

    cut_out(s, &o, left_half, &r);
    assert_int_equal(test_scratch->full[0].size, 0);
    assert_int_equal(test_scratch->full[1].size, 0);
    assert_int_equal(test_scratch->work.size, 0);
}

TEST(test_cancelled)
{
    static const atomic_bool cancelled = true;
    SAMPLE s = save_sample(draw_noise(50, 50), ".png");
    const struct image_options o = cut_options(0, 0, IMAGE_NONE, IMAGE_PNG);
    const struct image_mask mask = {left_half, looked_at};
    struct image_result r = {0};
    struct error err = {0};
    uint8_t rgb[3 * SIDE * SIDE];

    begin(s, &o, rgb);
    assert_fails(err, ERROR_DEADLINE,
                 image_cut_finish(test_scratch, &mask, &o, &cancelled, &r, &err));
}

int main(void)
{
    memset(half_through, 128, sizeof(half_through));
    for (int i = 0; i < SIDE * SIDE; i++)
        left_half[i] = i % SIDE < SIDE / 2 ? 255 : 0;
    return cmocka_run_group_tests(test_cases, start_images, stop_images);
}
