/* Pictures drawn for the image tests, and a look at what came out. */
#pragma once

#include "../test_cases.h"
#include "image/read/colours.h"
#include "image/read/jpeg.h"
#include "image/scratch.h"

/* x265, which only makes HEIC samples here, never frees some of what it allocates. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libx265.so\n";
}

static const struct image_limits test_limits = {50000000, 268435456};
static struct image_scratch *test_scratch; /* the first thread's */

struct rgb {
    int r, g, b;
};

static const struct rgb RED = {255, 0, 0}, GREEN = {0, 160, 0}, BLUE = {0, 0, 255},
                        GREY = {120, 120, 120}, WHITE = {255, 255, 255};

/* libvips owns what it made; tests own samples. */
struct sample {
    void *data;
    size_t len;
};

static inline struct bytes sample_bytes(struct sample s)
{
    return bytes_of(s.data, s.len);
}

static inline VipsImage *draw_plain(int width, int height, struct rgb c)
{
    double values[] = {c.r, c.g, c.b};
    VipsImage *black = NULL, *out = NULL, *bytes = NULL, *rgb = NULL;

    assert_int_equal(vips_black(&black, width, height, "bands", 3, NULL), 0);
    assert_int_equal(vips_linear(black, &out, (double[]){1, 1, 1}, values, 3, NULL), 0);
    assert_int_equal(vips_cast_uchar(out, &bytes, NULL), 0);
    assert_int_equal(vips_copy(bytes, &rgb, "interpretation", VIPS_INTERPRETATION_sRGB, NULL), 0);
    g_object_unref(black);
    g_object_unref(out);
    g_object_unref(bytes);
    return rgb;
}

/* Red, green / blue, grey: four quarters, so that every turn and flip looks different. */
static inline VipsImage *draw_quarters(int width, int height)
{
    const struct rgb colours[] = {RED, GREEN, BLUE, GREY};
    VipsImage *parts[4], *rows[2], *out;

    for (int i = 0; i < 4; i++)
        parts[i] = draw_plain(width / 2, height / 2, colours[i]);
    assert_int_equal(vips_arrayjoin(parts, &rows[0], 2, "across", 2, NULL), 0);
    assert_int_equal(vips_arrayjoin(parts + 2, &rows[1], 2, "across", 2, NULL), 0);
    assert_int_equal(vips_arrayjoin(rows, &out, 2, "across", 1, NULL), 0);
    for (int i = 0; i < 4; i++)
        g_object_unref(parts[i]);
    g_object_unref(rows[0]);
    g_object_unref(rows[1]);
    return out;
}

/* The same noise every time: files of some size, in which every part matters. */
static inline VipsImage *draw_noise(int width, int height)
{
    size_t len = (size_t)width * (size_t)height * 3;
    uint8_t *pixels = malloc(len);
    VipsImage *view, *out;
    uint32_t state = 1;

    assert_non_null(pixels);
    for (size_t i = 0; i < len; i++) {
        state = state * 1664525 + 1013904223;
        pixels[i] = (uint8_t)(state >> 26 << 2);
    }
    view = vips_image_new_from_memory_copy(pixels, len, width, height, 3, VIPS_FORMAT_UCHAR);
    free(pixels);
    assert_int_equal(vips_copy(view, &out, "interpretation", VIPS_INTERPRETATION_sRGB, NULL), 0);
    g_object_unref(view);
    return out;
}

/* Encode and forget the image. `suffix` as libvips takes it: ".jpg[Q=90]". */
static inline struct sample save_sample(VipsImage *image, const char *suffix)
{
    struct sample s;

    if (vips_image_write_to_buffer(image, suffix, &s.data, &s.len, NULL) != 0)
        fail_msg("%s: %s", suffix, vips_error_buffer());
    g_object_unref(image);
    return s;
}

/* HEIC samples need an HEVC encoder, which not every system has (Debian 13: a plugin). */
static inline bool can_make(const char *suffix)
{
    VipsImage *image = draw_plain(64, 64, GREY);
    void *data = NULL;
    size_t len;
    bool ok = vips_image_write_to_buffer(image, suffix, &data, &len, NULL) == 0;

    g_object_unref(image);
    g_free(data);
    vips_error_clear();
    return ok;
}

static inline void sample_done(struct sample *s)
{
    g_free(s->data);
}
#define SAMPLE CLEANUP(sample_done) struct sample

/* The pixel of an encoded result. */
static inline struct rgb pixel_at(const void *data, size_t len, int x, int y)
{
    VipsImage *image = vips_image_new_from_buffer(data, len, "", NULL);
    double *values = NULL;
    int n = 0;
    struct rgb c;

    assert_non_null(image);
    assert_int_equal(image->Bands, 3);
    assert_int_equal(image->BandFmt, VIPS_FORMAT_UCHAR);
    assert_int_equal(vips_getpoint(image, &values, &n, x, y, NULL), 0);
    c = (struct rgb){(int)values[0], (int)values[1], (int)values[2]};
    g_free(values);
    g_object_unref(image);
    return c;
}

static inline void assert_near(struct rgb is, struct rgb should, int tolerance)
{
    if (abs(is.r - should.r) > tolerance || abs(is.g - should.g) > tolerance ||
        abs(is.b - should.b) > tolerance)
        fail_msg("colour %d,%d,%d is not near %d,%d,%d", is.r, is.g, is.b, should.r, should.g,
                 should.b);
}

static inline struct image_options options_of(int width, int height, enum image_fit fit,
                                              enum image_format format)
{
    struct image_options o = image_options_default();

    o.width = width;
    o.height = height;
    o.fit = fit;
    o.format = format;
    return o;
}

static inline struct image_input test_input(struct bytes data)
{
    return (struct image_input){.data = data, .limits = &test_limits};
}

static inline bool transform(struct bytes data, const struct image_options *o,
                             struct image_result *ret, struct error *err)
{
    struct image_input input = test_input(data);

    return image_transform(test_scratch, &input, o, ret, err);
}

static inline void transform_ok(struct sample s, const struct image_options *o,
                                struct image_result *ret)
{
    struct error err = {0};

    if (!transform(sample_bytes(s), o, ret, &err))
        fail_msg("%s: %s", error_slug(err.code), err.message);
}

/* Colour at a point of what becomes of `s`; PNG, so that nothing is lost on the way. */
static inline struct rgb transformed_pixel(struct sample s, struct image_options o, int x, int y)
{
    CLEANUP(image_result_done) struct image_result r = {0};

    o.format = IMAGE_PNG;
    transform_ok(s, &o, &r);
    return pixel_at(r.data, r.len, x, y);
}

static inline int start_images(void **state)
{
    struct error err = {0};

    if (!image_start(&err))
        return -1;
    image_can_decode(IMAGE_AVIF); /* the tests' own libvips calls want the module, too */
    test_scratch = image_scratch_new(&err);
    return test_scratch != NULL ? 0 : -1;
}

static inline int stop_images(void **state)
{
    image_scratch_free(test_scratch);
    image_stop();
    return 0;
}
