/* Two ways of a JPEG, in rows and whole through libvips: the same pictures, the same errors. The
 * decoder and what it takes for damage are shared, so without a colour profile the results are
 * equal to the last byte; with one, colours are converted before resizing on one way and after it
 * on the other, and pictures are turned before and after it: then so near. */
#include "test_image_samples.h"

#include "image/read/jpeg_guard.h"

#include <lcms2.h>
#include <math.h>
#include <string.h>

static const double PROFILE_PSNR = 36, TURNED_PSNR = 50; /* dB */

struct jpeg_kind {
    const char *name;
    int components, h, v;         /* sampling factors of the first component */
    bool progressive, rgb, scans; /* one for each component */
    int restart_rows;
    int orientation; /* 0: no EXIF */
    struct bytes profile;
};

/* Soft gradients, hard edges, some noise. */
static void draw_line(uint8_t *line, int width, int y, int components)
{
    for (int x = 0; x < width; x++) {
        int edge = (x / 13 + y / 9) % 2 * 90, noise = (x * 7919 + y * 104729) % 23;

        for (int c = 0; c < components; c++)
            line[x * components + c] =
                (uint8_t)((x * (3 - c) + y * (c + 1)) / 4 % 140 + edge + noise);
    }
}

static void write_exif(struct jpeg_compress_struct *c, int orientation)
{
    uint8_t exif[] = "Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x06\0\x03\0\0\0\x01\0\x02\0\0"
                     "\x01\x12\0\x03\0\0\0\x01\0?\0\0\0\0\0\0";

    *(uint8_t *)memchr(exif, '?', sizeof(exif)) = (uint8_t)orientation;
    jpeg_write_marker(c, JPEG_APP0 + 1, exif, sizeof(exif) - 1);
}

static struct sample make_jpeg(const struct jpeg_kind *kind, int width, int height)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long len = 0;
    CLEANUP_FREE uint8_t *line = malloc((size_t)width * 4);
    struct sample s;

    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &data, &len);
    c.image_width = (JDIMENSION)width;
    c.image_height = (JDIMENSION)height;
    c.input_components = kind->components;
    c.in_color_space = kind->components == 1   ? JCS_GRAYSCALE
                       : kind->components == 3 ? JCS_RGB
                                               : JCS_CMYK;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 90, TRUE);
    if (kind->rgb)
        jpeg_set_colorspace(&c, JCS_RGB);
    c.comp_info[0].h_samp_factor = kind->h;
    c.comp_info[0].v_samp_factor = kind->v;
    c.restart_in_rows = kind->restart_rows;
    if (kind->progressive)
        jpeg_simple_progression(&c);
    if (kind->scans) {
        static const jpeg_scan_info scans[] = {{1, {0}, 0, 63, 0, 0},
                                               {1, {1}, 0, 63, 0, 0},
                                               {1, {2}, 0, 63, 0, 0},
                                               {1, {3}, 0, 63, 0, 0}};

        c.scan_info = scans;
        c.num_scans = kind->components;
    }
    jpeg_start_compress(&c, TRUE);
    if (kind->orientation != 0)
        write_exif(&c, kind->orientation);
    if (kind->profile.len > 0)
        jpeg_write_icc_profile(&c, kind->profile.data, (unsigned)kind->profile.len);
    for (int y = 0; y < height; y++) {
        JSAMPROW row = line;

        draw_line(line, width, y, kind->components);
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    s = (struct sample){g_malloc(len), len};
    memcpy(s.data, data, len);
    free(data);
    return s;
}

static bool run(bool only_libvips, struct bytes data, const struct image_options *o,
                struct image_result *r, struct error *err)
{
    bool ok;

    test_scratch->only_libvips = only_libvips;
    ok = transform(data, o, r, err);
    test_scratch->only_libvips = false;
    return ok;
}

static double psnr(const struct image_result *a, const struct image_result *b)
{
    VipsImage *x = vips_image_new_from_buffer(a->data, a->len, "", NULL);
    VipsImage *y = vips_image_new_from_buffer(b->data, b->len, "", NULL);
    size_t len = 3 * (size_t)a->width * (size_t)a->height;
    double sum = 0;

    assert_int_equal(vips_image_wio_input(x), 0);
    assert_int_equal(vips_image_wio_input(y), 0);
    for (size_t i = 0; i < len; i++)
        sum += (x->data[i] - y->data[i]) * (x->data[i] - y->data[i]);
    g_object_unref(x);
    g_object_unref(y);
    return sum > 0 ? 10 * log10(255. * 255. * (double)len / sum) : 999;
}

/* CMYK goes one way only, through libvips, and its colours take long. */
static void assert_same(struct sample s, const struct image_options *o,
                        const struct jpeg_kind *kind, const char *name, double least)
{
    CLEANUP(image_result_done) struct image_result a = {0}, b = {0};
    struct error err = {0};

    if (!run(false, sample_bytes(s), o, &a, &err))
        fail_msg("%s, directly: %s", name, err.message);
    if (kind->components == 4)
        return;
    if (!run(true, sample_bytes(s), o, &b, &err))
        fail_msg("%s, by libvips: %s", name, err.message);
    assert_int_equal(a.width, b.width);
    assert_int_equal(a.height, b.height);
    if (least > 0 ? psnr(&a, &b) < least : a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
        fail_msg("%s to %d x %d, fit %d: %.1f dB", name, o->width, o->height, (int)o->fit,
                 psnr(&a, &b));
}

static const struct jpeg_kind kinds[] = {
    {"4:4:4", 3, 1, 1, .restart_rows = 0},
    {"4:2:2", 3, 2, 1, .restart_rows = 0},
    {"4:2:0", 3, 2, 2, .restart_rows = 0},
    {"4:4:0", 3, 1, 2, .restart_rows = 0},
    {"4:1:1", 3, 4, 1, .restart_rows = 0},
    {"grey", 1, 1, 1, .restart_rows = 0},
    {"grey 2x2", 1, 2, 2, .restart_rows = 0},
    {"RGB", 3, 1, 1, .rgb = true},
    {"CMYK", 4, 1, 1, .restart_rows = 0},
    {"progressive 4:2:0", 3, 2, 2, .progressive = true},
    {"progressive 4:4:4", 3, 1, 1, .progressive = true},
    {"progressive grey", 1, 1, 1, .progressive = true},
    {"restarts", 3, 2, 2, .restart_rows = 1},
    {"several scans", 3, 2, 1, .scans = true},
    {"CMYK, several scans", 4, 1, 1, .scans = true},
    {"CMYK, progressive", 4, 1, 1, .progressive = true},
    {"CMYK, restarts", 4, 1, 1, .restart_rows = 1},
    {"progressive, restarts", 3, 1, 1, .progressive = true, .restart_rows = 1},
};

/* Crops at every side, whole pictures, enlarged ones, strong and weak reductions; the fits in
 * turns. */
static void assert_kind(const struct jpeg_kind *kind, int width, int height)
{
    static const int boxes[][2] = {{40, 40}, {7, 30}, {90, 20}, {200, 150}, {1, 1}};
    static size_t turn;
    SAMPLE s = make_jpeg(kind, width, height);

    for (size_t i = 0; i < ARRAY_SIZE(boxes) * 2; i++, turn++) {
        struct image_options o =
            options_of(boxes[i / 2][0], boxes[i / 2][1], (enum image_fit)(turn % 4), IMAGE_PNG);

        assert_same(s, &o, kind, kind->name,
                    kind->profile.len > 0   ? PROFILE_PSNR
                    : kind->orientation > 1 ? TURNED_PSNR
                                            : 0);
    }
}

TEST(test_samplings)
{
    static const int sizes[][2] = {{176, 328}, {424, 120}, {640, 480}};

    for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(sizes); i++) {
        const int *size = sizes[i % ARRAY_SIZE(sizes)];

        assert_kind(&kinds[i / ARRAY_SIZE(sizes)], size[0], size[1]);
    }
}

TEST(test_odd_sizes)
{
    struct image_options o = options_of(16, 12, IMAGE_COVER, IMAGE_PNG);

    for (int n = 1; n <= 40; n++) {
        const struct jpeg_kind *kind = &kinds[(size_t)n % ARRAY_SIZE(kinds)];
        SAMPLE a = make_jpeg(kind, n, 41 - n), b = make_jpeg(&kinds[2], n, n);

        assert_same(a, &o, kind, kind->name, 0);
        assert_same(b, &o, &kinds[2], "odd 4:2:0", 0);
    }
}

/* The window, wherever it is cut out, is what the whole picture has there: skipping rows and
 * columns changes nothing. A panorama's middle at full size, against libvips, which skips none. */
TEST(test_windows_are_exact)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        for (int n = 16; n < 120 && kinds[i].components < 4; n += 13) {
            struct image_options o = options_of(n, n, IMAGE_COVER, IMAGE_PNG);
            SAMPLE wide = make_jpeg(&kinds[i], 300 + n, n), tall = make_jpeg(&kinds[i], n, 300 + n);

            assert_same(wide, &o, &kinds[i], kinds[i].name, 0);
            assert_same(tall, &o, &kinds[i], kinds[i].name, 0);
        }
    }
}

TEST(test_orientations)
{
    for (int i = 0; i <= 9; i++) { /* 0 and 9 mean nothing */
        struct jpeg_kind kind = kinds[2];

        kind.orientation = i == 0 ? 77 : i;
        kind.name = "oriented";
        assert_kind(&kind, 144, 88);
    }
}

static struct bytes saved_profile(cmsHPROFILE profile)
{
    cmsUInt32Number len = 0;
    uint8_t *data;

    assert_non_null(profile);
    assert_true(cmsSaveProfileToMem(profile, NULL, &len));
    data = malloc(len);
    assert_true(cmsSaveProfileToMem(profile, data, &len));
    cmsCloseProfile(profile);
    return bytes_of(data, len);
}

static struct bytes wide_profile(void)
{
    const cmsCIExyY white = {0.3127, 0.329, 1};
    const cmsCIExyYTRIPLE p3 = {{0.68, 0.32, 1}, {0.265, 0.69, 1}, {0.15, 0.06, 1}};
    cmsToneCurve *gamma = cmsBuildGamma(NULL, 1.6);
    cmsToneCurve *curves[] = {gamma, gamma, gamma};
    struct bytes ret = saved_profile(cmsCreateRGBProfile(&white, &p3, curves));

    cmsFreeToneCurve(gamma);
    return ret;
}

static struct bytes grey_profile(void)
{
    cmsToneCurve *gamma = cmsBuildGamma(NULL, 1.5);
    struct bytes ret = saved_profile(cmsCreateGrayProfile(cmsD50_xyY(), gamma));

    cmsFreeToneCurve(gamma);
    return ret;
}

/* Each on its own kind of picture, and on the wrong one, where it counts for nothing; one after
 * the other, so that a transform that is kept for the wrong one shows. */
TEST(test_profiles)
{
    struct bytes profiles[] = {wide_profile(), grey_profile(),
                               saved_profile(cmsCreate_sRGBProfile()),
                               bytes_of(strdup("no profile at all"), 17)};

    for (size_t i = 0; i < ARRAY_SIZE(profiles) * 4; i++) {
        static const int on[] = {0, 5, 9, 7};
        struct jpeg_kind kind = kinds[on[i % 4]];
        char name[64];

        kind.profile = profiles[i / 4];
        snprintf(name, sizeof(name), "%s, profile %zu", kind.name, i / 4);
        kind.name = name;
        assert_kind(&kind, 152, 120);
    }
    for (size_t i = 0; i < ARRAY_SIZE(profiles); i++)
        free((void *)(uintptr_t)profiles[i].data);
}

/* What a profile does must show, or the test above proves nothing. */
TEST(test_profile_counts)
{
    struct jpeg_kind plain = kinds[0], wide = plain;
    struct image_options o = options_of(60, 60, IMAGE_COVER, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result a = {0}, b = {0};
    struct error err = {0};

    wide.profile = wide_profile();
    SAMPLE s = make_jpeg(&plain, 100, 100), t = make_jpeg(&wide, 100, 100);
    assert_true(run(false, sample_bytes(s), &o, &a, &err));
    assert_true(run(false, sample_bytes(t), &o, &b, &err));
    assert_true(psnr(&a, &b) < PROFILE_PSNR - 3);
    free((void *)(uintptr_t)wide.profile.data);
}

/* Other bytes anywhere: both ways refuse the same with the same code; what both take gives the
 * same. */
TEST(test_damage)
{
    struct image_options o = options_of(24, 24, IMAGE_COVER, IMAGE_PNG);
    uint32_t seed = 1;
    int refused = 0, taken = 0;

    for (size_t i = 0; i < ARRAY_SIZE(kinds) * 30; i++) {
        SAMPLE s = make_jpeg(&kinds[i / 30], 120, 80);
        CLEANUP(image_result_done) struct image_result a = {0}, b = {0};
        struct error x = {0}, y = {0};

        for (int n = 0; n < 1 + (int)(i % 3); n++) {
            seed = seed * 1664525 + 1013904223;
            ((uint8_t *)s.data)[2 + (seed >> 8) % (s.len - 2)] ^= (uint8_t)(1 + seed % 255);
        }
        bool ok = run(false, sample_bytes(s), &o, &a, &x);
        bool same = run(true, sample_bytes(s), &o, &b, &y) == ok && x.code == y.code;

        if (!same || (ok && psnr(&a, &b) < 999))
            fail_msg("%s, damage %zu: %d (%s) and %s", kinds[i / 30].name, i, ok, x.message,
                     y.message);
        taken += ok;
        refused += !ok;
    }
    assert_true(taken > 50 && refused > 50);
}

#define BYTES(literal) bytes_of(literal, sizeof(literal) - 1)

/* A copy with `with` at `at`, in the place of `cut` bytes. */
static struct sample spliced(struct sample s, size_t at, size_t cut, struct bytes with)
{
    struct sample r = {g_malloc(s.len - cut + with.len), s.len - cut + with.len};
    uint8_t *to = r.data;

    memcpy(to, s.data, at);
    if (with.len > 0)
        memcpy(to + at, with.data, with.len);
    memcpy(to + at + with.len, (uint8_t *)s.data + at + cut, s.len - at - cut);
    return r;
}

static size_t place_of(struct sample s, uint8_t marker)
{
    uint8_t *p = memmem(s.data, s.len, (uint8_t[]){0xff, marker}, 2);

    assert_non_null(p);
    return (size_t)(p - (uint8_t *)s.data);
}

static void assert_still(struct sample s, struct sample with, const struct jpeg_kind *kind,
                         const char *what)
{
    struct image_options o = options_of(24, 24, IMAGE_COVER, IMAGE_PNG);
    CLEANUP(image_result_done) struct image_result a = {0}, b = {0};
    struct error err = {0};
    char name[100];

    snprintf(name, sizeof(name), "%s, %s", kind->name, what);
    assert_same(with, &o, kind, name, 0);
    assert_true(run(false, sample_bytes(s), &o, &a, &err));
    assert_true(run(false, sample_bytes(with), &o, &b, &err));
    assert_true(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
}

/* What stands between segments and in fields of no meaning is none of the pixels'. */
TEST(test_oddities_are_no_damage)
{
    static const struct {
        const char *what;
        uint8_t before; /* the marker */
        const char *with;
        size_t len;
    } cases[] = {
        {"18 strays", 0xdb, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18},
        {"strays before the first scan", 0xda, "stray bytes, more than a few of them", 36},
        {"a comment that is longer than it says", 0xdb, "\xff\xfe\0\x0ahelloworld", 14},
        {"a comment of length 0", 0xdb, "\xff\xfe\0\0", 4},
        {"JFIF 2", 0xdb, "\xff\xe0\0\x10JFIF\0\2\0\0\0\1\0\1\0\0", 18},
        {"padding", 0xd9, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 23},
        {"fill", 0xd9, "\xff\xff\xff", 3},
    };

    for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(cases); i++) {
        const struct jpeg_kind *kind = &kinds[i % ARRAY_SIZE(kinds)];
        SAMPLE s = make_jpeg(kind, 300, 200);
        size_t n = i / ARRAY_SIZE(kinds);
        size_t at = cases[n].before == 0xd9 ? s.len - 2 : place_of(s, cases[n].before);
        SAMPLE with = spliced(s, at, 0, bytes_of(cases[n].with, cases[n].len));

        if (kind->rgb && strcmp(cases[n].what, "JFIF 2") == 0) /* which means YCbCr */
            continue;
        assert_still(s, with, kind, cases[n].what);
    }
}

TEST(test_odd_scan_headers_and_restarts)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        SAMPLE s = make_jpeg(&kinds[i], 300, 200);
        size_t scan = place_of(s, 0xda), components = ((uint8_t *)s.data)[scan + 4];

        if (!kinds[i].progressive) {
            SAMPLE with = spliced(s, scan + 5 + 2 * components, 3, BYTES("\x01\x3f\x01"));
            assert_still(s, with, &kinds[i], "odd scan header");
        }
        if (kinds[i].restart_rows > 0) {
            SAMPLE with = spliced(s, place_of(s, 0xd1), 0, BYTES("\x5a"));
            assert_still(s, with, &kinds[i], "a stray before a restart");
        }
    }
}

static void assert_refused(struct sample s, const char *kind, const char *what)
{
    struct image_options o = options_of(24, 24, IMAGE_COVER, IMAGE_PNG);

    for (int way = 0; way < 2; way++) {
        CLEANUP(image_result_done) struct image_result r = {0};
        struct error err = {0};

        if (run(way == 1, sample_bytes(s), &o, &r, &err) || err.code != ERROR_BAD_IMAGE)
            fail_msg("%s, %s: %s", kind, what, error_slug(err.code));
    }
}

/* What is left over of a damaged scan, a scan that is missing, a restart interval, codes. */
TEST(test_missing_data)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct jpeg_kind *kind = &kinds[i];
        SAMPLE s = make_jpeg(kind, 300, 200);
        SAMPLE left = spliced(s, s.len - 2, 0, BYTES("what a damaged scan leaves over"));
        SAMPLE ones = spliced(s, s.len * 2 / 3, 16,
                              BYTES("\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0"));

        if (kind->restart_rows == 0)
            assert_refused(left, kind->name, "garbage");
        assert_refused(ones, kind->name, "no such code");
        if (kind->scans || kind->progressive) {
            size_t at = s.len - 2;
            while (memcmp((uint8_t *)s.data + at, "\xff\xda", 2) != 0)
                at--;
            SAMPLE without = spliced(s, at, s.len - 2 - at, bytes_of(NULL, 0));

            assert_refused(without, kind->name, "no last scan");
        }
        if (kind->restart_rows > 0) {
            size_t from = place_of(s, 0xd1), to = place_of(s, 0xd2);
            SAMPLE without = spliced(s, from, to - from, bytes_of(NULL, 0));

            assert_refused(without, kind->name, "no interval");
        }
    }
}

/* Nothing of one image shows in another: a file without its own tables does not get those of the
 * file before. */
TEST(test_no_state_is_left)
{
    struct image_options o = options_of(24, 24, IMAGE_COVER, IMAGE_PNG);
    SAMPLE s = make_jpeg(&kinds[0], 60, 40);
    uint8_t *p = memmem(s.data, s.len, "\xff\xdb", 2);
    CLEANUP(image_result_done) struct image_result r = {0};
    struct error err = {0};

    transform_ok(s, &o, &r);
    assert_non_null(p);
    p[1] = 0xe5; /* its quantisation tables become a segment that nobody reads */
    p = memmem(p, 200, "\xff\xdb", 2);
    if (p != NULL)
        p[1] = 0xe5;
    CLEANUP(image_result_done) struct image_result t = {0};
    assert_fails(err, ERROR_BAD_IMAGE, run(false, sample_bytes(s), &o, &t, &err));
}

TEST_MAIN(start_images, stop_images)
