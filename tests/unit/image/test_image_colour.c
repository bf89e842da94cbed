/* Orientation, colours, transparency, metadata. */
#include "test_image_samples.h"

#include <string.h>

/* The same picture with an EXIF block of its metadata: only the JPEG writer makes one from nothing.
 */
static VipsImage *with_exif(VipsImage *image)
{
    SAMPLE jpeg = {0};
    VipsImage *loaded, *copy;
    const void *exif;
    size_t len;

    assert_int_equal(vips_copy(image, &copy, NULL), 0);
    jpeg = save_sample(copy, ".jpg");
    loaded = vips_image_new_from_buffer(jpeg.data, jpeg.len, "", NULL);
    assert_non_null(loaded);
    assert_int_equal(vips_image_get_blob(loaded, VIPS_META_EXIF_NAME, &exif, &len), 0);
    vips_image_set_blob_copy(image, VIPS_META_EXIF_NAME, exif, len);
    g_object_unref(loaded);
    return image;
}

/* The picture as it is stored when `orientation` turns it into draw_quarters(). */
static VipsImage *draw_turned(int orientation)
{
    VipsImage *upright = draw_quarters(120, 80), *a = NULL, *out = NULL;
    static const VipsAngle angles[] = {0,
                                       VIPS_ANGLE_D0,
                                       VIPS_ANGLE_D0,
                                       VIPS_ANGLE_D180,
                                       VIPS_ANGLE_D180,
                                       VIPS_ANGLE_D90,
                                       VIPS_ANGLE_D270,
                                       VIPS_ANGLE_D270,
                                       VIPS_ANGLE_D90};
    bool mirrored = orientation == 2 || orientation == 4 || orientation == 5 || orientation == 7;

    assert_int_equal(vips_rot(upright, &a, angles[orientation], NULL), 0);
    if (mirrored)
        assert_int_equal(vips_flip(a, &out, VIPS_DIRECTION_HORIZONTAL, NULL), 0);
    else
        assert_int_equal(vips_copy(a, &out, NULL), 0);
    g_object_unref(upright);
    g_object_unref(a);
    vips_image_set_int(out, VIPS_META_ORIENTATION, orientation);
    return with_exif(out);
}

TEST(test_orientation)
{
    static const char *const suffixes[] = {".jpg[Q=95,subsample_mode=off]", ".tif", ".webp",
                                           ".png"};
    struct image_options o = options_of(60, 40, IMAGE_FILL, IMAGE_PNG);

    for (int i = 0; i < 8 * 4; i++) {
        SAMPLE s = save_sample(draw_turned(1 + i % 8), suffixes[i / 8]);
        assert_near(transformed_pixel(s, o, 3, 3), RED, 8);
        assert_near(transformed_pixel(s, o, 56, 3), GREEN, 8);
        assert_near(transformed_pixel(s, o, 3, 36), BLUE, 8);
        assert_near(transformed_pixel(s, o, 56, 36), GREY, 8);
    }
}

/* The missing dimension follows from the upright picture, and cropping is done on it. */
TEST(test_orientation_comes_first)
{
    SAMPLE s = save_sample(draw_turned(6), ".jpg");
    struct image_options o = options_of(60, 0, IMAGE_COVER, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result r = {0};

    transform_ok(s, &o, &r);
    assert_int_equal(r.width, 60);
    assert_int_equal(r.height, 40);
    o.width = 20; /* 20 x 80 of the middle */
    o.height = 80;
    assert_near(transformed_pixel(s, o, 5, 20), RED, 8);
    assert_near(transformed_pixel(s, o, 15, 20), GREEN, 8);
    assert_near(transformed_pixel(s, o, 5, 60), BLUE, 8);
}

/* Left half transparent, right half opaque red. */
static VipsImage *draw_half_transparent(void)
{
    VipsImage *alphas[2], *alpha, *red = draw_plain(100, 60, RED), *bands[2], *out, *copy;

    for (int i = 0; i < 2; i++) {
        VipsImage *c = draw_plain(50, 60, (struct rgb){255 * i, 0, 0});
        assert_int_equal(vips_extract_band(c, &alphas[i], 0, NULL), 0);
        g_object_unref(c);
    }
    assert_int_equal(vips_arrayjoin(alphas, &alpha, 2, NULL), 0);
    bands[0] = red;
    bands[1] = alpha;
    assert_int_equal(vips_bandjoin(bands, &out, 2, NULL), 0);
    assert_int_equal(vips_copy(out, &copy, "interpretation", VIPS_INTERPRETATION_sRGB, NULL), 0);
    g_object_unref(alphas[0]);
    g_object_unref(alphas[1]);
    g_object_unref(alpha);
    g_object_unref(red);
    g_object_unref(out);
    return copy;
}

TEST(test_alpha)
{
    static const char *const suffixes[] = {".png", ".webp[lossless]", ".gif",
                                           ".tif", ".png[interlace]", ".avif[Q=90]"};
    struct image_options o = options_of(100, 60, IMAGE_FILL, IMAGE_PNG);

    o.background = 0x0080ff;
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        SAMPLE s = save_sample(draw_half_transparent(), suffixes[i]);

        assert_near(transformed_pixel(s, o, 10, 30), (struct rgb){0, 128, 255}, 6);
        assert_near(transformed_pixel(s, o, 90, 30), RED, 8);
    }
}

/* Shrinking must not let the colour of transparent pixels shine through. */
TEST(test_alpha_in_every_output)
{
    static const enum image_format formats[] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_AVIF};

    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        SAMPLE s = save_sample(draw_half_transparent(), ".png");
        struct image_options o = options_of(10, 6, IMAGE_CONTAIN, formats[i]);
        CLEANUP(image_result_done) struct image_result r = {0};

        transform_ok(s, &o, &r);
        assert_near(pixel_at(r.data, r.len, 1, 3), WHITE, 12);
    }
}

TEST(test_grey_and_sixteen_bits)
{
    static const VipsInterpretation kinds[] = {VIPS_INTERPRETATION_B_W, VIPS_INTERPRETATION_GREY16,
                                               VIPS_INTERPRETATION_RGB16};
    static const char *const suffixes[] = {".png", ".tif"};
    struct image_options o = options_of(20, 20, IMAGE_COVER, IMAGE_PNG);

    for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(suffixes); i++) {
        VipsImage *grey = draw_plain(50, 40, GREY), *out;

        assert_int_equal(vips_colourspace(grey, &out, kinds[i % 3], NULL), 0);
        g_object_unref(grey);
        SAMPLE s = save_sample(out, suffixes[i / 3]);
        assert_near(transformed_pixel(s, o, 10, 10), GREY, 2);
    }
}

TEST(test_sixteen_bits_with_alpha)
{
    VipsImage *half = draw_half_transparent(), *out;
    struct image_options o = options_of(50, 30, IMAGE_COVER, IMAGE_PNG);

    assert_int_equal(vips_colourspace(half, &out, VIPS_INTERPRETATION_RGB16, NULL), 0);
    g_object_unref(half);
    SAMPLE s = save_sample(out, ".png");
    o.background = 0x0080ff;
    assert_near(transformed_pixel(s, o, 5, 15), (struct rgb){0, 128, 255}, 2);
    assert_near(transformed_pixel(s, o, 45, 15), RED, 2);
}

TEST(test_cmyk)
{
    static const char *const suffixes[] = {".jpg", ".jpg[strip]", ".tif", ".tif[strip]"};
    struct image_options o = options_of(50, 30, IMAGE_FILL, IMAGE_PNG);

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        VipsImage *quarters = draw_quarters(100, 60), *cmyk;

        assert_int_equal(vips_icc_transform(quarters, &cmyk, "cmyk", "input_profile", "srgb", NULL),
                         0);
        g_object_unref(quarters);
        assert_int_equal(cmyk->Bands, 4);
        SAMPLE s = save_sample(cmyk, suffixes[i]);
        /* print cannot show all of sRGB */
        assert_near(transformed_pixel(s, o, 5, 5), RED, 45);
        assert_near(transformed_pixel(s, o, 45, 5), GREEN, 75);
        assert_near(transformed_pixel(s, o, 45, 25), GREY, 15);
    }
}

static VipsImage *with_profile(VipsImage *image, const char *profile)
{
    VipsImage *out;

    assert_int_equal(
        vips_icc_transform(image, &out, profile, "input_profile", "srgb", "depth", 8, NULL), 0);
    g_object_unref(image);
    return out;
}

/* A transform is kept for its own profile and kind of pixels, whatever came in between. */
TEST(test_kept_transforms)
{
    static const struct {
        const char *profile, *suffix;
        int depth;
    } kinds[] = {{"cmyk", ".tif", 8}, {"cmyk", ".tif[strip]", 8}, {"cmyk", ".tif", 16},
                 {"p3", ".png", 8},   {"p3", ".png", 16},         {"p3", ".png[strip]", 8},
                 {"cmyk", ".jpg", 8}};
    struct image_options o = options_of(50, 30, IMAGE_FILL, IMAGE_PNG);
    struct image_scratch *kept = test_scratch;

    for (size_t n = 0; n < 3 * ARRAY_SIZE(kinds); n++) {
        size_t i = n * 3 % ARRAY_SIZE(kinds);
        VipsImage *quarters = draw_quarters(100, 60), *stored;
        struct rgb alone;
        struct error err;

        assert_int_equal(vips_icc_transform(quarters, &stored, kinds[i].profile, "input_profile",
                                            "srgb", "depth", kinds[i].depth, NULL),
                         0);
        g_object_unref(quarters);
        SAMPLE s = save_sample(stored, kinds[i].suffix);
        test_scratch = image_scratch_new(&err);
        assert_non_null(test_scratch);
        alone = transformed_pixel(s, o, 5, 5);
        image_scratch_free(test_scratch);
        test_scratch = kept;
        assert_near(transformed_pixel(s, o, 5, 5), alone, 0);
    }
}

/* Wide-gamut numbers are not sRGB numbers: without its profile this red would be pale. */
TEST(test_profile)
{
    static const char *const suffixes[] = {".jpg[Q=95,subsample_mode=off]", ".png", ".webp[Q=95]",
                                           ".tif", ".avif[Q=95]"};
    struct image_options o = options_of(50, 30, IMAGE_FILL, IMAGE_PNG);

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        VipsImage *p3 = with_profile(draw_quarters(100, 60), "p3");
        double *v;
        int n;

        assert_int_equal(vips_getpoint(p3, &v, &n, 5, 5, NULL), 0);
        assert_true(v[0] < 240 && v[1] > 40); /* the sample is what it claims to be */
        g_free(v);
        SAMPLE s = save_sample(p3, suffixes[i]);
        assert_near(transformed_pixel(s, o, 5, 5), RED, 10);
        assert_near(transformed_pixel(s, o, 45, 25), GREY, 6);
    }
}

/* The colour beside the transparency is converted, the background is not. */
TEST(test_profile_and_alpha)
{
    SAMPLE s = save_sample(with_profile(draw_half_transparent(), "p3"), ".png");
    struct image_options o = options_of(50, 30, IMAGE_FILL, IMAGE_PNG);

    o.background = 0xff0000;
    assert_near(transformed_pixel(s, o, 5, 15), RED, 0);
    assert_near(transformed_pixel(s, o, 45, 15), RED, 4);
}

TEST(test_broken_profile_is_ignored)
{
    VipsImage *image = draw_quarters(100, 60);
    struct image_options o = options_of(50, 30, IMAGE_FILL, IMAGE_PNG);

    vips_image_set_blob_copy(image, VIPS_META_ICC_NAME, "not a profile at all, just some text", 36);
    SAMPLE s = save_sample(image, ".jpg[Q=95]");
    assert_near(transformed_pixel(s, o, 5, 5), RED, 8);
}

static struct bytes profile_of(VipsImage *image)
{
    const void *data;
    size_t len;

    assert_int_equal(vips_image_get_blob(image, VIPS_META_ICC_NAME, &data, &len), 0);
    return bytes_of(data, len);
}

TEST(test_profiles_are_for_four_channels_at_most)
{
    VipsImage *srgb = with_profile(draw_plain(8, 8, RED), "srgb");
    CLEANUP(colours_done) struct colours colours = {0};
    struct error err = {0};

    for (int bands = 1; bands <= 16; bands++) {
        void *transform = NULL;

        assert_true(colours_find(&colours, profile_of(srgb), (struct colours_kind){bands, 8},
                                 &transform, &err));
        assert_int_equal(transform != NULL, bands == 3);
    }
    g_object_unref(srgb);
}

TEST(test_srgb_profile_is_known)
{
    VipsImage *srgb = with_profile(draw_plain(8, 8, RED), "srgb");
    VipsImage *p3 = with_profile(draw_plain(8, 8, RED), "p3");
    struct bytes profile = profile_of(srgb);

    assert_true(icc_is_srgb(profile));
    assert_false(icc_is_srgb(profile_of(p3)));
    for (size_t len = 0; len < 1000 && len < profile.len; len++) {
        CLEANUP_FREE uint8_t *cut = malloc(len + 1); /* so that asan sees the end */
        memcpy(cut, profile.data, len);
        icc_is_srgb(bytes_of(cut, len));
    }
    assert_false(icc_is_srgb(bytes_of(profile.data, 200)));
    g_object_unref(srgb);
    g_object_unref(p3);
}

TEST(test_metadata_gone)
{
    static const enum image_format formats[] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_AVIF};
    static const char *const forbidden[] = {"SECRET", "Exif", "EXIF", "eXIf", "xpacket",   "XMP ",
                                            "ICC_",   "iCCP", "ICCP", "prof", "Photoshop", "tEXt",
                                            "zTXt",   "iTXt", "tIME", "rICC"};

    for (size_t i = 0; i < ARRAY_SIZE(formats) * 2; i++) {
        VipsImage *image = with_profile(draw_quarters(64, 64), "p3");

        vips_image_set_string(image, "exif-ifd0-Software", "SECRET (SECRET, ASCII, 6, 6)");
        vips_image_set_string(image, "exif-ifd3-GPSLatitude", "1/1 2/1 3/1");
        vips_image_set_string(image, "png-comment-0-Comment", "SECRET");
        vips_image_set_blob_copy(image, VIPS_META_XMP_NAME, "http://ns.adobe.com/ SECRET", 27);
        vips_image_set_blob_copy(image, VIPS_META_IPTC_NAME, "Photoshop 3.0 SECRET", 20);
        SAMPLE s = save_sample(with_exif(image), i % 2 == 0 ? ".jpg" : ".png");
        struct image_options o = options_of(64, 64, IMAGE_FILL, formats[i / 2]);
        CLEANUP(image_result_done) struct image_result r = {0};

        assert_non_null(memmem(s.data, s.len, "SECRET", 6)); /* the sample is what it claims */
        transform_ok(s, &o, &r);
        for (size_t k = 0; k < ARRAY_SIZE(forbidden); k++) {
            if (memmem(r.data, r.len, forbidden[k], strlen(forbidden[k])) != NULL)
                fail_msg("%s in %s", forbidden[k], image_format_name(formats[i / 2]));
        }
    }
}

TEST_MAIN(start_images, stop_images)
