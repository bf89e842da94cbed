/* Against a plain separable Lanczos3 in double precision, and what can be said without one. */
#include "image/resample.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 0xa5 };

struct picture {
    int width, height;
    uint8_t *rgbx;
};

static void cleanup_picture(struct picture *p)
{
    free(p->rgbx);
}
#define PICTURE CLEANUP(cleanup_picture) struct picture

static void *must(void *p)
{
    assert_non_null(p);
    return p;
}

static uint32_t noise_state = 1;

static uint32_t noise(void)
{
    noise_state ^= noise_state << 13; /* Marsaglia's xorshift */
    noise_state ^= noise_state >> 17;
    noise_state ^= noise_state << 5;
    return noise_state >> 8;
}

static uint8_t *pixel(const struct picture *p, int x, int y)
{
    return p->rgbx + ((size_t)y * (size_t)p->width + (size_t)x) * 4;
}

static struct picture draw(int width, int height)
{
    return (struct picture){width, height, must(calloc((size_t)width * (size_t)height, 4))};
}

static struct picture draw_noise(int width, int height)
{
    struct picture p = draw(width, height);

    for (size_t i = 0; i < (size_t)width * (size_t)height * 4; i++)
        p.rgbx[i] = (uint8_t)noise();
    return p;
}

/* Only black and white: the kernel overshoots as much as it can. */
static struct picture draw_extremes(int width, int height)
{
    struct picture p = draw(width, height);

    for (size_t i = 0; i < (size_t)width * (size_t)height * 4; i++)
        p.rgbx[i] = noise() % 2 == 0 ? 0 : 255;
    return p;
}

static struct picture draw_plain(int width, int height, const uint8_t rgb[3])
{
    struct picture p = draw(width, height);

    for (int i = 0; i < width * height; i++)
        memcpy(p.rgbx + (size_t)i * 4, rgb, 3);
    return p;
}

/* --- the resizer under test --- */

static size_t stride_of(const struct resample_plan *plan)
{
    return (size_t)plan->out_width * 3 + 5;
}

/* Every row is on the heap for itself, and so exactly is the output: a sanitizer sees every step
 * aside. */
static uint8_t *resize_with(struct resample *r, const struct picture *from,
                            struct resample_plan plan)
{
    struct error err = {0};
    size_t stride = stride_of(&plan), line = (size_t)plan.out_width * 3;
    size_t size = stride * (size_t)(plan.out_height - 1) + line;
    uint8_t *out = must(malloc(size));
    bool done = false;

    memset(out, GUARD, size);
    plan.out = out;
    plan.out_stride = stride;
    if (!resample_begin(r, &plan, &err))
        fail_msg("%s", err.message);
    assert_in_range(r->first_row, 0, r->last_row - 1);
    assert_in_range(r->last_row, 1, from->height);
    assert_in_range(r->first_col, 0, r->last_col - 1);
    assert_in_range(r->last_col, 1, from->width);
    for (int y = r->first_row; y < r->last_row; y++) {
        size_t bytes = (size_t)(r->last_col - r->first_col) * 4;
        CLEANUP_FREE uint8_t *row = must(malloc(bytes));

        memcpy(row, pixel(from, r->first_col, y), bytes);
        done = resample_row(r, row);
        assert_int_equal(done, resample_rows_done(r) == plan.out_height);
    }
    assert_true(done);
    for (size_t i = 0; i < size; i++)
        if (i % stride >= line)
            assert_int_equal(out[i], GUARD);
    return out;
}

static struct resample_plan whole(const struct picture *p, int out_width, int out_height)
{
    return (struct resample_plan){.src_width = p->width,
                                  .src_height = p->height,
                                  .width = p->width,
                                  .height = p->height,
                                  .out_width = out_width,
                                  .out_height = out_height};
}

static uint8_t *resize(const struct picture *from, const struct resample_plan *plan)
{
    CLEANUP(resample_done) struct resample r = {0};

    return resize_with(&r, from, *plan);
}

/* --- the reference --- */

static double lanczos3(double x)
{
    double t = M_PI * x;

    if (fabs(x) >= 3)
        return 0;
    return fabs(x) < 1e-9 ? 1 : 3 * sin(t) * sin(t / 3) / (t * t);
}

struct axis {
    double start, length;
    int src, out;
};

/* Output i of a line of samples `step` apart. */
static double reference_one(const struct axis *a, int i, const double *samples, int step)
{
    double scale = a->length / a->out, widen = fmax(scale, 1);
    double centre = a->start + (i + 0.5) * scale - 0.5, sum = 0, weights = 0;

    for (int k = (int)floor(centre - 3 * widen); k <= (int)ceil(centre + 3 * widen); k++) {
        double weight = lanczos3((k - centre) / widen);
        int at = k < 0 ? 0 : k >= a->src ? a->src - 1 : k;

        sum += weight * samples[(size_t)at * (size_t)step];
        weights += weight;
    }
    return sum / weights;
}

static double *reference(const struct picture *p, const struct resample_plan *plan)
{
    struct axis across = {plan->left, plan->width, p->width, plan->out_width};
    struct axis down = {plan->top, plan->height, p->height, plan->out_height};
    size_t width = (size_t)p->width * 3;
    CLEANUP_FREE double *samples = must(calloc(width * (size_t)p->height, sizeof(double)));
    CLEANUP_FREE double *line = must(calloc(width, sizeof(double)));
    double *out =
        must(calloc((size_t)plan->out_width * (size_t)plan->out_height * 3, sizeof(double)));

    for (size_t i = 0; i < width * (size_t)p->height; i++)
        samples[i] = p->rgbx[i / 3 * 4 + i % 3];
    for (int y = 0; y < plan->out_height; y++) {
        for (size_t x = 0; x < width; x++)
            line[x] = reference_one(&down, y, samples + x, (int)width);
        for (int x = 0; x < plan->out_width * 3; x++)
            out[(size_t)y * (size_t)plan->out_width * 3 + (size_t)x] =
                fmin(fmax(reference_one(&across, x / 3, line + x % 3, 3), 0), 255);
    }
    return out;
}

struct tolerance {
    double most, mean;
    int margin; /* outermost pixels that are not compared */
};

/* Whether sample i of the output is within the margin. */
static bool compared(const struct resample_plan *plan, int margin, int i)
{
    int x = i / 3 % plan->out_width, y = i / 3 / plan->out_width;

    return x >= margin && x < plan->out_width - margin && y >= margin &&
           y < plan->out_height - margin;
}

/* Rounding alone makes 0.5 and 0.25. */
static const struct tolerance exact = {.most = 0.85, .mean = 0.27};

static void assert_like_reference(struct resample *r, const struct picture *p,
                                  const struct resample_plan *plan, struct tolerance allowed)
{
    CLEANUP_FREE uint8_t *is = resize_with(r, p, *plan);
    CLEANUP_FREE double *should = reference(p, plan);
    double most = 0, total = 0;
    int line = plan->out_width * 3, count = 0;

    for (int i = 0; i < line * plan->out_height; i++) {
        if (!compared(plan, allowed.margin, i))
            continue;
        double off =
            fabs(is[(size_t)(i / line) * stride_of(plan) + (size_t)(i % line)] - should[i]);

        most = fmax(most, off);
        total += off;
        count++;
    }
    /* a mean of few says nothing */
    if (most > allowed.most || (count > 1000 && total / count > allowed.mean))
        fail_msg("%dx%d, %gx%g at %g,%g to %dx%d: off by up to %.3f, mean %.3f", p->width,
                 p->height, plan->width, plan->height, plan->left, plan->top, plan->out_width,
                 plan->out_height, most, total / count);
}

/* --- tests --- */

static const int geometries[][4] = {
    {300, 300, 256, 256}, {375, 500, 256, 256}, {100, 75, 26, 26}, {64, 64, 200, 200},
    {64, 64, 64, 64},     {64, 64, 64, 20},     {64, 64, 20, 64},  {1, 1, 1, 1},
    {1, 1, 40, 30},       {1, 200, 30, 30},     {200, 1, 30, 30},  {2, 2, 50, 50},
    {5, 3, 1, 1},         {90, 90, 9, 9},       {30, 70, 7, 33},   {1000, 3, 101, 50},
    {3, 1000, 50, 101},   {7, 7, 1000, 1},      {3, 2, 1, 1500},   {128, 128, 64, 64},
};

static void test_like_reference(void **state)
{
    CLEANUP(resample_done) struct resample r = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(geometries); i++) {
        const int *g = geometries[i];
        PICTURE noisy = draw_noise(g[0], g[1]);
        PICTURE hard = draw_extremes(g[0], g[1]);
        struct resample_plan plan = whole(&noisy, g[2], g[3]);

        assert_like_reference(&r, &noisy, &plan, exact);
        assert_like_reference(&r, &hard, &plan, exact);
    }
}

static double fraction(void)
{
    return noise() / (double)(1 << 24);
}

/* Pixels beside the window are neighbours, and tables are remade whenever they must be. */
static void test_windows(void **state)
{
    CLEANUP(resample_done) struct resample r = {0};

    (void)state;
    for (int i = 0; i < 250; i++) {
        PICTURE p = draw_noise(1 + (int)(noise() % 90), 1 + (int)(noise() % 90));
        struct resample_plan plan = whole(&p, 1 + (int)(noise() % 60), 1 + (int)(noise() % 60));

        plan.left = fraction() * p.width * 0.9;
        plan.top = fraction() * p.height * 0.9;
        plan.width = (p.width - plan.left) * (0.01 + 0.99 * fraction());
        plan.height = (p.height - plan.top) * (0.01 + 0.99 * fraction());
        if (plan.width < 10 * plan.out_width && plan.height < 10 * plan.out_height)
            assert_like_reference(&r, &p, &plan, exact);
    }
}

/* Averages of boxes come first: nearly the same (noise is the hardest), but at the edges, where it
 * is the outermost box that is repeated. */
static void test_large_factors(void **state)
{
    static const int sizes[][4] = {
        {600, 500, 20, 20}, {1201, 330, 100, 31}, {333, 1201, 31, 100}, {1900, 50, 17, 50}};
    static const struct tolerance boxes = {.most = 4, .mean = 0.6, .margin = 3};
    CLEANUP(resample_done) struct resample r = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        PICTURE p = draw_noise(sizes[i][0], sizes[i][1]);
        struct resample_plan plan = whole(&p, sizes[i][2], sizes[i][3]);

        assert_like_reference(&r, &p, &plan, boxes);
    }
}

static void test_plain_stays_plain(void **state)
{
    static const int sizes[][4] = {{65535, 1, 1, 1},  {1, 65535, 1, 1},   {65535, 3, 999, 5},
                                   {1, 1, 65535, 1},  {1, 1, 1, 65535},   {2, 2, 1, 65535},
                                   {333, 777, 50, 9}, {33, 77, 224, 224}, {1, 65535, 200, 7}};
    static const uint8_t colours[][3] = {{255, 255, 255}, {0, 128, 255}, {1, 254, 127}};
    CLEANUP(resample_done) struct resample r = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(colours); i++) {
        const int *s = sizes[i % ARRAY_SIZE(sizes)];
        const uint8_t *rgb = colours[i / ARRAY_SIZE(sizes)];
        PICTURE p = draw_plain(s[0], s[1], rgb);
        struct resample_plan plan = whole(&p, s[2], s[3]);
        CLEANUP_FREE uint8_t *out = resize_with(&r, &p, plan);

        for (int y = 0; y < s[3]; y++)
            for (int x = 0; x < s[2]; x++)
                assert_memory_equal(out + (size_t)y * stride_of(&plan) + (size_t)x * 3, rgb, 3);
    }
}

static void test_same_size_is_a_copy(void **state)
{
    PICTURE p = draw_noise(67, 41);
    struct resample_plan plan = whole(&p, 30, 20);

    (void)state;
    plan.left = 11;
    plan.top = 7;
    plan.width = 30;
    plan.height = 20;
    CLEANUP_FREE uint8_t *out = resize(&p, &plan);

    for (int y = 0; y < 20; y++)
        for (int x = 0; x < 30; x++)
            assert_memory_equal(out + (size_t)y * stride_of(&plan) + (size_t)x * 3,
                                pixel(&p, x + 11, y + 7), 3);
}

/* A ramp of 65535 pixels: output i is the value in the middle of what it stands for. */
static void test_ramp(void **state)
{
    static const int widths[] = {1000, 256, 17, 3, 1};
    PICTURE p = draw(65535, 2);

    (void)state;
    for (int i = 0; i < 2 * p.width; i++)
        memset(p.rgbx + (size_t)i * 4, i % p.width / 257, 4);
    for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
        struct resample_plan plan = whole(&p, widths[i], 1);
        CLEANUP_FREE uint8_t *out = resize(&p, &plan);

        for (int x = 0; x < widths[i]; x++) {
            double should = (x + 0.5) * 255 / widths[i] - 0.5;
            bool edge = x < 3 || x >= widths[i] - 3; /* repeating is not going on */

            if (fabs(out[x * 3] - should) > (edge ? 255 * 0.06 / widths[i] + 1 : 1))
                fail_msg("%d of %d: %d, not %f", x, widths[i], out[x * 3], should);
        }
    }
}

static void test_impulse_is_symmetric(void **state)
{
    static const int widths[] = {7, 31, 40, 62, 63, 100, 301};
    PICTURE p = draw(63, 63);

    (void)state;
    memset(pixel(&p, 31, 31), 255, 4);
    for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
        int side = widths[i], most = 0;
        struct resample_plan plan = whole(&p, side, side);
        CLEANUP_FREE uint8_t *out = resize(&p, &plan);

        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++) {
                int at = out[(size_t)y * stride_of(&plan) + (size_t)x * 3];
                int across = out[(size_t)y * stride_of(&plan) + (size_t)(side - 1 - x) * 3];
                int turned = out[(size_t)x * stride_of(&plan) + (size_t)y * 3];

                assert_in_range(at - across + 1, 0, 2);
                assert_in_range(at - turned + 1, 0, 2);
                most = at > most ? at : most;
            }
        assert_in_range(most, 1, 255);
    }
}

/* What a decoder may skip. */
static void test_only_the_window_is_asked_for(void **state)
{
    CLEANUP(resample_done) struct resample r = {0};
    struct error err = {0};
    uint8_t out[3 * 50 * 50];
    struct resample_plan plan = {.src_width = 1000,
                                 .src_height = 800,
                                 .left = 400,
                                 .top = 700.5,
                                 .width = 100,
                                 .height = 99.5,
                                 .out_width = 50,
                                 .out_height = 50,
                                 .out = out,
                                 .out_stride = 150};

    (void)state;
    assert_true(resample_begin(&r, &plan, &err));
    assert_in_range(r.first_col, 393, 396);
    assert_in_range(r.last_col, 504, 507);
    assert_in_range(r.first_row, 694, 696);
    assert_int_equal(r.last_row, 800);
}

static void test_rows_come_as_soon_as_they_can(void **state)
{
    CLEANUP(resample_done) struct resample r = {0};
    struct error err = {0};
    uint8_t row[4 * 16] = {0}, out[3 * 16 * 16];
    PICTURE p = draw(16, 16);
    struct resample_plan plan = whole(&p, 16, 16);

    (void)state;
    plan.out = out;
    plan.out_stride = 48;
    assert_true(resample_begin(&r, &plan, &err));
    for (int y = 0; y < 16; y++) {
        assert_int_equal(resample_row(&r, row), y == 15);
        assert_in_range(resample_rows_done(&r), y, y + 1);
    }
    assert_true(resample_row(&r, row)); /* too many: ignored */
    assert_true(resample_begin(&r, &plan, &err));
    assert_false(resample_row(&r, row));
    assert_true(resample_begin(&r, &plan, &err)); /* in the middle */
    assert_int_equal(resample_rows_done(&r), 0);
}

static void test_bad_plans(void **state)
{
    uint8_t out[3];
    const struct resample_plan good = {.src_width = 9,
                                       .src_height = 9,
                                       .width = 9,
                                       .height = 9,
                                       .out_width = 1,
                                       .out_height = 1,
                                       .out = out,
                                       .out_stride = 3};
    struct resample_plan bad[14];
    CLEANUP(resample_done) struct resample r = {0};
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].src_width = 0;
    bad[1].src_height = 65536;
    bad[2].out_width = 0;
    bad[3].out_height = -1;
    bad[4].out = NULL;
    bad[5].out_stride = 2;
    bad[6].left = NAN;
    bad[7].width = NAN;
    bad[8].height = 0;
    bad[9].height = INFINITY;
    bad[10].left = -1;
    bad[11].top = 1;
    bad[12].width = -3;
    bad[13].out_width = bad[13].out_height = 5000;
    bad[13].out_stride = 15000;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (resample_begin(&r, &bad[i], &err))
            fail_msg("plan %zu was taken", i);
        assert_int_equal(err.code, ERROR_INTERNAL);
    }
    assert_true(resample_begin(&r, &good, &err));
}

/* A window that leaves the source a little, by someone's rounding. */
static void test_window_rounded_out(void **state)
{
    CLEANUP(resample_done) struct resample r = {0};
    PICTURE p = draw_noise(50, 50);
    struct resample_plan plan = whole(&p, 33, 70);

    (void)state;
    plan.left = -0.9;
    plan.width = 51.8;
    plan.top = 49.5;
    plan.height = 1.4;
    assert_like_reference(&r, &p, &plan, exact);
    plan.top = -1e-9;
    plan.height = 50 + 2e-9;
    assert_like_reference(&r, &p, &plan, exact);
    plan.left = 49.9;
    plan.width = 1e-300;
    assert_like_reference(&r, &p, &plan, exact);
}

static void test_memory_is_given_back(void **state)
{
    CLEANUP(resample_done) struct resample r = {0};
    PICTURE small = draw_noise(20, 20);
    PICTURE large = draw_noise(3000, 40);
    struct resample_plan plan = whole(&small, 10, 10);

    (void)state;
    free(resize_with(&r, &small, plan));
    resample_trim(&r, 100 * 1024);
    assert_non_null(r.ring.data);
    plan = whole(&large, 2000, 10);
    free(resize_with(&r, &large, plan));
    resample_trim(&r, 100 * 1024);
    assert_null(r.ring.data);
    plan = whole(&small, 10, 10);
    assert_like_reference(&r, &small, &plan, exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_reference),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_large_factors),
        cmocka_unit_test(test_plain_stays_plain),
        cmocka_unit_test(test_same_size_is_a_copy),
        cmocka_unit_test(test_ramp),
        cmocka_unit_test(test_impulse_is_symmetric),
        cmocka_unit_test(test_only_the_window_is_asked_for),
        cmocka_unit_test(test_rows_come_as_soon_as_they_can),
        cmocka_unit_test(test_bad_plans),
        cmocka_unit_test(test_window_rounded_out),
        cmocka_unit_test(test_memory_is_given_back),
    };

    return cmocka_run_group_tests_name("image_resample", tests, NULL, NULL);
}
