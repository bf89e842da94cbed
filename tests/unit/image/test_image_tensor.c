#include "test_image_samples.h"

#include <math.h>
#include <string.h>

enum { SIDE = 224, PLANE = SIDE * SIDE };

static const struct image_tensor_spec imagenet = {
    .width = SIDE,
    .height = SIDE,
    .short_side = 256,
    .nchw = true,
    .mean = {127.5F, 127.5F, 127.5F},
    .std = {127.5F, 127.5F, 127.5F},
};
/* the plain numbers 0..255 */
static const struct image_tensor_spec plain = {
    .width = SIDE, .height = SIDE, .short_side = 256, .nchw = true, .std = {1, 1, 1}};

static uint8_t pixels[3 * PLANE];
static float tensor[3 * PLANE];

static void to_tensor(struct sample s, const struct image_tensor_spec *spec)
{
    struct error err = {0};
    struct image_input input = test_input(sample_bytes(s));
    struct image_stages stages;

    if (!image_to_pixels(test_scratch, &input, spec, pixels, &stages, &err))
        fail_msg("%s: %s", error_slug(err.code), err.message);
    assert_true(stages.decode > 0);
    image_tensor_fill(pixels, spec, tensor);
}

static struct rgb at(int x, int y)
{
    return (struct rgb){(int)lroundf(tensor[y * SIDE + x]),
                        (int)lroundf(tensor[PLANE + y * SIDE + x]),
                        (int)lroundf(tensor[2 * PLANE + y * SIDE + x])};
}

static void assert_value(float is, float should)
{
    if (!(fabsf(is - should) < 0.001F))
        fail_msg("%f is not %f", (double)is, (double)should);
}

TEST(test_channels_and_scale)
{
    SAMPLE s = save_sample(draw_plain(300, 400, (struct rgb){255, 0, 51}), ".png");

    to_tensor(s, &imagenet);
    for (int i = 0; i < PLANE; i += 97) {
        assert_value(tensor[i], 1);
        assert_value(tensor[PLANE + i], -1);
        assert_value(tensor[2 * PLANE + i], -0.6F);
    }
}

TEST(test_mean_and_std_of_each_channel)
{
    struct image_tensor_spec spec = imagenet;
    SAMPLE s = save_sample(draw_plain(224, 224, (struct rgb){100, 50, 20}), ".png");

    memcpy(spec.mean, (float[]){0, 10, 20}, sizeof(spec.mean));
    memcpy(spec.std, (float[]){100, 20, 5}, sizeof(spec.std));
    to_tensor(s, &spec);
    assert_value(tensor[7], 1);
    assert_value(tensor[PLANE + 7], 2);
    assert_value(tensor[2 * PLANE + 7], 0);
    spec.nchw = false;
    to_tensor(s, &spec);
    assert_value(tensor[3 * 7], 1);
    assert_value(tensor[3 * 7 + 1], 2);
    assert_value(tensor[3 * 7 + 2], 0);
    assert_value(tensor[3 * PLANE - 3], 1);
}

/* Compare with the noise itself: pixel (x, y) of the tensor is (x + dx, y + dy) of the source. */
static void assert_is_crop(int width, int height, int dx, int dy)
{
    VipsImage *noise = draw_noise(width, height);
    SAMPLE s;
    CLEANUP_FREE uint8_t *copy = malloc((size_t)width * (size_t)height * 3);

    assert_int_equal(vips_image_wio_input(noise), 0); /* into memory */
    memcpy(copy, noise->data, (size_t)width * (size_t)height * 3);
    s = save_sample(noise, ".png");
    to_tensor(s, &plain);
    for (int i = 0; i < PLANE; i += 101) {
        const uint8_t *p = copy + 3 * ((i / SIDE + dy) * width + i % SIDE + dx);
        assert_near(at(i % SIDE, i / SIDE), (struct rgb){p[0], p[1], p[2]}, 0);
    }
}

TEST(test_exact_size_is_not_resampled)
{
    assert_is_crop(SIDE, SIDE, 0, 0);
}

TEST(test_short_side_is_only_cropped)
{
    assert_is_crop(256, 256, 16, 16);
    assert_is_crop(400, 256, 88, 16);
    assert_is_crop(240, 300, 8, 38); /* covers, though smaller than the short side */
}

/* Quarters show the centre: 512 x 1024 becomes 256 x 512, of which the middle is taken. */
TEST(test_larger_is_scaled_and_cropped)
{
    static const int sizes[][2] = {{512, 1024}, {1024, 512}, {2600, 2600}, {300, 300}};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        SAMPLE s = save_sample(draw_quarters(sizes[i][0], sizes[i][1]), ".jpg[Q=95]");

        to_tensor(s, &plain);
        assert_near(at(0, 0), RED, 8);
        assert_near(at(108, 108), RED, 12);
        assert_near(at(115, 108), GREEN, 12);
        assert_near(at(108, 115), BLUE, 12);
        assert_near(at(223, 223), GREY, 8);
    }
}

/* Scaling to the short side decides how much is seen, not the tensor's size. */
TEST(test_margin_is_cropped_away)
{
    VipsImage *inner = draw_plain(448, 448, RED), *framed;

    assert_int_equal(vips_embed(inner, &framed, 32, 32, 512, 512, NULL), 0);
    g_object_unref(inner);
    SAMPLE s = save_sample(framed, ".png");
    to_tensor(s, &plain);
    assert_near(at(3, 3), RED, 4);
    assert_near(at(220, 220), RED, 4);
}

TEST(test_smaller_is_enlarged)
{
    static const int sizes[][2] = {{100, 50}, {2, 2}, {300, 100}, {20, 600}};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        SAMPLE s = save_sample(draw_quarters(sizes[i][0], sizes[i][1]), ".png");

        to_tensor(s, &plain);
        assert_near(at(5, 5), RED, 20); /* the filter overshoots */
        assert_near(at(218, 5), GREEN, 20);
        assert_near(at(5, 218), BLUE, 20);
        assert_near(at(218, 218), GREY, 20);
    }
}

TEST(test_orientation_and_alpha)
{
    VipsImage *turned = NULL, *quarters = draw_quarters(300, 400), *alpha, *out;
    double zero = 0;

    assert_int_equal(vips_rot(quarters, &turned, VIPS_ANGLE_D270, NULL), 0);
    g_object_unref(quarters);
    vips_image_set_int(turned, VIPS_META_ORIENTATION, 6);
    SAMPLE s = save_sample(turned, ".jpg");
    to_tensor(s, &plain);
    assert_near(at(5, 5), RED, 8);
    assert_near(at(218, 5), GREEN, 8);

    alpha = draw_plain(300, 300, RED);
    assert_int_equal(vips_bandjoin_const(alpha, &out, &zero, 1, NULL), 0);
    g_object_unref(alpha);
    SAMPLE t = save_sample(out, ".png");
    to_tensor(t, &plain);
    assert_near(at(100, 100), WHITE, 0);
}

TEST(test_errors)
{
    struct image_limits small = {.max_pixels = 1000, .max_decode_bytes = 1 << 20};
    SAMPLE s = save_sample(draw_plain(100, 100, RED), ".png");
    struct image_input input = {sample_bytes(s), &small, NULL, 0};
    struct image_stages stages;
    struct error err = {0};

    assert_fails(err, ERROR_TOO_LARGE,
                 image_to_pixels(test_scratch, &input, &plain, pixels, &stages, &err));
    input.data = bytes_of("text", 4);
    assert_fails(err, ERROR_UNSUPPORTED_MEDIA,
                 image_to_pixels(test_scratch, &input, &plain, pixels, &stages, &err));
}

TEST_MAIN(start_images, stop_images)
