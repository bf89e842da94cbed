/* Pictures, the resizer under test and a plain separable Lanczos3 in double precision. */
#ifndef TEST_RESAMPLE_REFERENCE_H
#define TEST_RESAMPLE_REFERENCE_H

#include "../test_cases.h"
#include "image/resample/resample.h"
#include "image/resample/resample_kernels.h"

#include <math.h>

enum { GUARD = 0xa5 };

struct picture {
    int width, height;
    uint8_t *rgbx;
};

static inline void cleanup_picture(struct picture *p)
{
    free(p->rgbx);
}
#define PICTURE CLEANUP(cleanup_picture) struct picture

static inline void *must(void *p)
{
    assert_non_null(p);
    return p;
}

static uint32_t noise_state = 1;

static inline uint32_t noise(void)
{
    noise_state ^= noise_state << 13; /* Marsaglia's xorshift */
    noise_state ^= noise_state >> 17;
    noise_state ^= noise_state << 5;
    return noise_state >> 8;
}

static inline uint8_t *pixel(const struct picture *p, int x, int y)
{
    return p->rgbx + ((size_t)y * (size_t)p->width + (size_t)x) * 4;
}

static inline struct picture draw(int width, int height)
{
    return (struct picture){width, height, must(calloc((size_t)width * (size_t)height, 4))};
}

static inline struct picture draw_noise(int width, int height)
{
    struct picture p = draw(width, height);

    for (size_t i = 0; i < (size_t)width * (size_t)height * 4; i++)
        p.rgbx[i] = (uint8_t)noise();
    return p;
}

/* Only black and white: the kernel overshoots as much as it can. */
static inline struct picture draw_extremes(int width, int height)
{
    struct picture p = draw(width, height);

    for (size_t i = 0; i < (size_t)width * (size_t)height * 4; i++)
        p.rgbx[i] = noise() % 2 == 0 ? 0 : 255;
    return p;
}

static inline struct picture draw_plain(int width, int height, const uint8_t rgb[3])
{
    struct picture p = draw(width, height);

    for (int i = 0; i < width * height; i++)
        memcpy(p.rgbx + (size_t)i * 4, rgb, 3);
    return p;
}

/* --- the resizer under test --- */

static inline size_t stride_of(const struct resample_plan *plan)
{
    return (size_t)plan->out_width * 3 + 5;
}

/* Every row is on the heap for itself, and so exactly is the output: a sanitizer sees every step
 * aside. */
static inline uint8_t *resize_with(struct resample *r, const struct picture *from,
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

static inline struct resample_plan whole(const struct picture *p, int out_width, int out_height)
{
    return (struct resample_plan){.src_width = p->width,
                                  .src_height = p->height,
                                  .width = p->width,
                                  .height = p->height,
                                  .out_width = out_width,
                                  .out_height = out_height};
}

static inline uint8_t *resize(const struct picture *from, const struct resample_plan *plan)
{
    CLEANUP(resample_done) struct resample r = {0};

    return resize_with(&r, from, *plan);
}

/* --- the reference --- */

static inline double lanczos3(double x)
{
    double t = M_PI * x;

    if (fabs(x) >= 3)
        return 0;
    return fabs(x) < 1e-9 ? 1 : 3 * sin(t) * sin(t / 3) / (t * t);
}

static inline double catmull_rom(double x)
{
    double t = fabs(x);

    if (t >= 2)
        return 0;
    return t < 1 ? 1.5 * t * t * t - 2.5 * t * t + 1 : -0.5 * t * t * t + 2.5 * t * t - 4 * t + 2;
}

struct axis {
    double start, length;
    int src, out;
};

/* Output i of a line of samples `step` apart. */
static inline double reference_one(const struct axis *a, int i, const double *samples, int step)
{
    double scale = a->length / a->out, widen = fmax(scale, 1);
    double centre = a->start + (i + 0.5) * scale - 0.5, sum = 0, weights = 0;

    for (int k = (int)floor(centre - 3 * widen); k <= (int)ceil(centre + 3 * widen); k++) {
        double weight = scale < 1 ? catmull_rom(k - centre) : lanczos3((k - centre) / widen);
        int at = k < 0 ? 0 : k >= a->src ? a->src - 1 : k;

        sum += weight * samples[(size_t)at * (size_t)step];
        weights += weight;
    }
    return sum / weights;
}

static inline double *reference(const struct picture *p, const struct resample_plan *plan)
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
static inline bool compared(const struct resample_plan *plan, int margin, int i)
{
    int x = i / 3 % plan->out_width, y = i / 3 / plan->out_width;

    return x >= margin && x < plan->out_width - margin && y >= margin &&
           y < plan->out_height - margin;
}

/* Rounding alone makes 0.5 and 0.25. */
static const struct tolerance exact = {.most = 0.85, .mean = 0.27};

static inline void assert_like_reference(struct resample *r, const struct picture *p,
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

#endif
