/* Each operation on pixels in memory: exact results, plain references, and the two forms of each
 * inner loop, which give the same bytes. */
#include "test_image_samples.h"

#include "image/ops/operations.h"
#include "test_operation_cases.h"

#include <math.h>
#include <string.h>

static const struct operation *const all[] = {&operation_median, &operation_mean,
                                              &operation_rotate};

struct canvas {
    uint8_t *pixels;
    int width, height, bands;
};

static void canvas_done(struct canvas *c)
{
    free(c->pixels);
}
#define CANVAS CLEANUP(canvas_done) struct canvas

static size_t canvas_bytes(const struct canvas *c)
{
    return (size_t)c->width * (size_t)c->height * (size_t)c->bands;
}

/* Behind the picture lies what must not be written. */
enum { GUARD = 64, GUARD_BYTE = 0xa5 };

static struct canvas canvas_new(int width, int height, int bands)
{
    struct canvas c = {NULL, width, height, bands};

    c.pixels = malloc(canvas_bytes(&c) + GUARD);
    assert_non_null(c.pixels);
    memset(c.pixels, GUARD_BYTE, canvas_bytes(&c) + GUARD);
    return c;
}

static uint32_t random_state = 1;

static uint32_t random_number(void)
{
    random_state ^= random_state << 13; /* Marsaglia's xorshift */
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state >> 8;
}

static struct canvas canvas_of_noise(int width, int height, int bands)
{
    struct canvas c = canvas_new(width, height, bands);
    bool hard = random_number() % 2 == 0; /* only the extremes */

    for (size_t i = 0; i < canvas_bytes(&c); i++)
        c.pixels[i] = hard ? (random_number() % 2 == 0 ? 0 : 255) : (uint8_t)random_number();
    return c;
}

static struct canvas canvas_of(const uint8_t *pixels, int width, int height, int bands)
{
    struct canvas c = canvas_new(width, height, bands);

    memcpy(c.pixels, pixels, canvas_bytes(&c));
    return c;
}

/* `in` exactly as large as it must be, so that a sanitizer sees what is read beyond. In strips of
 * `rows`, from the last to the first; 0: all at once. */
static struct canvas operate_in_strips(const struct operation *o, int value,
                                       const struct canvas *in, bool portable, int rows)
{
    CLEANUP(scratch_buffer_done) struct scratch_buffer work = {0};
    CLEANUP_FREE uint8_t *exact = malloc(canvas_bytes(in));
    struct operation_run run = {
        .in = exact,
        .size = {in->width, in->height},
        .bands = in->bands,
        .value = value,
        .background = 0x102030,
        .work = &work,
        .portable = portable,
    };
    struct error err = {0};

    assert_non_null(exact);
    memcpy(exact, in->pixels, canvas_bytes(in));
    run.out_size = o->size != NULL ? o->size(value, run.size) : run.size;
    struct canvas out = canvas_new(run.out_size.width, run.out_size.height, in->bands);
    run.out = out.pixels;
    run.bottom = run.out_size.height;
    for (; run.bottom > 0; run.bottom = run.top) {
        run.top = rows == 0 || rows > run.bottom ? 0 : run.bottom - rows;
        assert_true(o->apply(&run, &err));
    }
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(out.pixels[canvas_bytes(&out) + i], GUARD_BYTE);
    return out;
}

static struct canvas operate(const struct operation *o, int value, const struct canvas *in,
                             bool portable)
{
    return operate_in_strips(o, value, in, portable, 0);
}

static void assert_same(const struct canvas *a, const struct canvas *b)
{
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    assert_memory_equal(a->pixels, b->pixels, canvas_bytes(a));
}

static void assert_operated(const struct operation *o, int value, const uint8_t *in, int bands,
                            int out_width, int out_height, const uint8_t *out)
{
    CANVAS from = canvas_of(in, CASE_WIDTH, CASE_HEIGHT, bands);
    CANVAS should = canvas_of(out, out_width, out_height, bands);

    for (int portable = 0; portable < 2; portable++) {
        CANVAS is = operate(o, value, &from, portable != 0);
        assert_same(&is, &should);
    }
}

TEST(test_exact)
{
    const int w = CASE_WIDTH, h = CASE_HEIGHT;

    assert_operated(&operation_rotate, 90, case_rgb, 3, h, w, case_rgb_90);
    assert_operated(&operation_rotate, 90, case_grey, 1, h, w, case_grey_90);
    assert_operated(&operation_rotate, 180, case_rgb, 3, w, h, case_rgb_180);
    assert_operated(&operation_rotate, 180, case_grey, 1, w, h, case_grey_180);
    assert_operated(&operation_rotate, 270, case_rgb, 3, h, w, case_rgb_270);
    assert_operated(&operation_rotate, 270, case_grey, 1, h, w, case_grey_270);
    assert_operated(&operation_mean, 3, case_rgb, 3, w, h, case_rgb_mean);
    assert_operated(&operation_mean, 3, case_grey, 1, w, h, case_grey_mean);
    assert_operated(&operation_median, 5, case_rgb, 3, w, h, case_rgb_median);
}

TEST(test_one_after_the_other)
{
    CANVAS in = canvas_of(case_rgb, CASE_WIDTH, CASE_HEIGHT, 3);
    CANVAS should = canvas_of(case_rgb_270_mean, CASE_HEIGHT, CASE_WIDTH, 3);
    CANVAS turned = operate(&operation_rotate, 270, &in, false);
    CANVAS is = operate(&operation_mean, 3, &turned, false);

    assert_same(&is, &should);
}

/* --- references --- */

static int clamp(int v, int max)
{
    return v < 0 ? 0 : v > max ? max : v;
}

static int compare(const void *a, const void *b)
{
    return *(const uint8_t *)a - *(const uint8_t *)b;
}

static uint8_t *at(const struct canvas *c, int x, int y, int band)
{
    return c->pixels + ((size_t)y * (size_t)c->width + (size_t)x) * (size_t)c->bands + band;
}

static uint8_t median_at(const struct canvas *c, int k, int x, int y, int band)
{
    uint8_t values[15 * 15];
    size_t n = 0;

    for (int v = y - k / 2; v <= y + k / 2; v++)
        for (int u = x - k / 2; u <= x + k / 2; u++)
            values[n++] = *at(c, clamp(u, c->width - 1), clamp(v, c->height - 1), band);
    qsort(values, n, 1, compare);
    return values[n / 2];
}

static uint8_t mean_at(const struct canvas *c, int k, int x, int y, int band)
{
    int sum = 0, n = 0;

    for (int v = y - k / 2; v <= y + k / 2; v++)
        for (int u = x - k / 2; u <= x + k / 2; u++) {
            if (u < 0 || u >= c->width || v < 0 || v >= c->height)
                continue;
            sum += *at(c, u, v, band);
            n++;
        }
    return (uint8_t)(sum / n);
}

/* Sizes from 1 x 1, among them some smaller than the window, in one direction or both. */
static struct canvas any_canvas(int i)
{
    int width = 1 + (int)(random_number() % (i % 3 == 0 ? 5 : 70));
    int height = 1 + (int)(random_number() % (i % 4 == 0 ? 3 : 40));

    if (i == 0)
        width = height = 1;
    return canvas_of_noise(width, height, 1 + i % 4);
}

static void assert_like(const struct operation *o, int k, const struct canvas *in,
                        uint8_t (*reference)(const struct canvas *, int, int, int, int))
{
    CANVAS is = operate(o, k, in, false);
    CANVAS portable = operate(o, k, in, true);

    assert_same(&is, &portable);
    for (int y = 0; y < in->height; y++)
        for (int x = 0; x < in->width; x++)
            for (int band = 0; band < in->bands; band++)
                if (*at(&is, x, y, band) != reference(in, k, x, y, band))
                    fail_msg("%s=%d of %d x %d x %d at %d, %d, %d: %d, not %d", o->name, k,
                             in->width, in->height, in->bands, x, y, band, *at(&is, x, y, band),
                             reference(in, k, x, y, band));
}

TEST(test_median_like_sorting)
{
    for (int k = 3; k <= 15; k += 2)
        for (int i = 0; i < 12; i++) {
            CANVAS in = any_canvas(i);
            assert_like(&operation_median, k, &in, median_at);
        }
}

TEST(test_mean_like_dividing)
{
    for (int k = 3; k <= 31; k += 2)
        for (int i = 0; i < 12; i++) {
            CANVAS in = any_canvas(i);
            assert_like(&operation_mean, k, &in, mean_at);
        }
}

/* Histograms are kept for strips of columns; sums are largest on white. */
TEST(test_wide_and_white)
{
    CANVAS wide = canvas_of_noise(600, 9, 3);
    CANVAS white = canvas_new(80, 70, 3);

    assert_like(&operation_median, 7, &wide, median_at);
    assert_like(&operation_median, 15, &wide, median_at);
    memset(white.pixels, 255, canvas_bytes(&white));
    for (int k = 3; k <= 31; k += 2) {
        CANVAS mean = operate(&operation_mean, k, &white, false);
        assert_same(&mean, &white);
    }
}

TEST(test_quarters_move_pixels)
{
    static const int sizes[][2] = {{1, 1},   {1, 300}, {300, 1}, {8, 8},     {9, 8},    {8, 9},
                                   {64, 64}, {65, 63}, {5, 200}, {131, 197}, {200, 130}};

    for (size_t i = 0; i < 4 * ARRAY_SIZE(sizes); i++) {
        const int *size = sizes[i / 4];
        CANVAS in = canvas_of_noise(size[0], size[1], 1 + (int)i % 4);
        CANVAS once = operate(&operation_rotate, 90, &in, false);
        CANVAS twice = operate(&operation_rotate, 180, &in, false);
        CANVAS thrice = operate(&operation_rotate, 270, &in, false);
        CANVAS portable = operate(&operation_rotate, 90, &in, true);
        CANVAS back = operate(&operation_rotate, 270, &in, true);

        assert_same(&once, &portable);
        assert_same(&thrice, &back);
        for (int y = 0; y < in.height; y++)
            for (int x = 0; x < in.width; x++) {
                const uint8_t *pixel = at(&in, x, y, 0);
                size_t bytes = (size_t)in.bands;

                assert_memory_equal(at(&once, in.height - 1 - y, x, 0), pixel, bytes);
                assert_memory_equal(at(&twice, in.width - 1 - x, in.height - 1 - y, 0), pixel,
                                    bytes);
                assert_memory_equal(at(&thrice, y, in.width - 1 - x, 0), pixel, bytes);
            }
    }
}

TEST(test_any_angle)
{
    CANVAS in = canvas_new(200, 100, 3);
    const uint8_t beside[] = {0x10, 0x20, 0x30}, inside[] = {200, 100, 50};

    for (size_t i = 0; i < canvas_bytes(&in); i++)
        in.pixels[i] = inside[i % 3];
    for (int degrees = 1; degrees < 360; degrees++) {
        if (degrees % 90 == 0)
            continue;
        double c = fabs(cos(degrees * M_PI / 180)), s = fabs(sin(degrees * M_PI / 180));
        CANVAS out = operate(&operation_rotate, degrees, &in, false);

        /* the whole picture is on it, and not a pixel more than that takes */
        assert_true(out.width >= 200 * c + 100 * s - 0.01 && out.width < 200 * c + 100 * s + 1);
        assert_true(out.height >= 200 * s + 100 * c - 0.01 && out.height < 200 * s + 100 * c + 1);
        assert_memory_equal(at(&out, out.width / 2, out.height / 2, 0), inside, 3);
        if (c > 0.1 && s > 0.1) {
            assert_memory_equal(at(&out, 0, 0, 0), beside, 3);
            assert_memory_equal(at(&out, out.width - 1, out.height - 1, 0), beside, 3);
        }
    }
}

/* Clockwise: what was at the right is at the bottom right after 45 degrees. */
TEST(test_direction)
{
    CANVAS in = canvas_new(101, 101, 1);

    memset(in.pixels, 0, canvas_bytes(&in));
    for (int y = 45; y < 56; y++)
        memset(at(&in, 80, y, 0), 255, 11);
    CANVAS out = operate(&operation_rotate, 45, &in, false);
    int off = (int)lround(35 * sqrt(0.5));
    assert_int_equal(*at(&out, out.width / 2 + off, out.height / 2 + off, 0), 255);
    assert_int_equal(*at(&out, out.width / 2 + off, out.height / 2 - off, 0), 0);
}

/* A fourth byte is a channel like the others; beside the picture it is transparent. */
TEST(test_alpha)
{
    CANVAS in = canvas_new(40, 40, 4);

    memset(in.pixels, 255, canvas_bytes(&in));
    CANVAS out = operate(&operation_rotate, 45, &in, false);
    assert_memory_equal(at(&out, 0, 0, 0), "\x10\x20\x30\0", 4);
    assert_memory_equal(at(&out, out.width / 2, out.height / 2, 0), "\xff\xff\xff\xff", 4);
}

static void assert_strips(const struct operation *o, int value, const struct canvas *in)
{
    for (int portable = 0; portable < 2; portable++) {
        CANVAS whole = operate(o, value, in, portable != 0);

        for (int rows = 1; rows < 2 * whole.height; rows += 1 + rows / 2) {
            CANVAS strips = operate_in_strips(o, value, in, portable != 0, rows);
            assert_same(&whole, &strips);
        }
    }
}

/* Strips of any height, each made for itself: what threads do. */
TEST(test_strips)
{
    static const int degrees[] = {1, 90, 135, 180, 270, 300};

    for (int i = 0; i < 12; i++) {
        CANVAS in = any_canvas(i);

        for (int k = 3; k <= 15; k += 2)
            assert_strips(&operation_median, k, &in);
        for (int k = 3; k <= 31; k += 4)
            assert_strips(&operation_mean, k, &in);
        for (size_t d = 0; d < ARRAY_SIZE(degrees); d++)
            assert_strips(&operation_rotate, degrees[d], &in);
    }
}

static atomic_int threads_seen;

/* Notes rows and threads: each row is made once, by however many threads. */
static bool note(const struct operation_run *run, struct error *err)
{
    atomic_fetch_add(&threads_seen, 1);
    for (int y = run->top; y < run->bottom; y++)
        run->out[y]++;
    return scratch_buffer_need(run->work, 10, err);
}

static double ten_ms(int value)
{
    return value;
}

TEST(test_threads)
{
    static const struct operation noting = {.apply = note, .cost_ns = ten_ms};
    static const struct {
        int height, ms, threads, strips;
    } cases[] = {{1000, 100, 1, 1}, {1000, 100, 0, 1}, {1000, 100, 3, 3}, {1000, 9, 4, 1},
                 {1000, 11, 4, 2},  {10, 100, 4, 1},   {65, 100, 8, 2},   {10000, 1000, 99, 16}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(scratch_buffer_done) struct scratch_buffer work = {0};
        CANVAS out = canvas_new(1, cases[i].height, 1);
        struct operation_run run = {.out = out.pixels,
                                    .size = {1, cases[i].height},
                                    .out_size = {1, cases[i].height},
                                    .bands = 1,
                                    .value = cases[i].ms * 1000000 / cases[i].height,
                                    .work = &work};
        struct error err = {0};

        atomic_store(&threads_seen, 0);
        memset(out.pixels, 0, canvas_bytes(&out));
        assert_true(operation_apply(&noting, &run, cases[i].threads, &err));
        assert_int_equal(threads_seen, cases[i].strips);
        for (size_t y = 0; y < canvas_bytes(&out); y++)
            assert_int_equal(out.pixels[y], 1);
    }
}

TEST(test_cancelled)
{
    static const atomic_bool cancelled = true;
    static const int values[][2] = {{0, 3}, {0, 9}, {1, 3}, {2, 90}, {2, 30}};
    CANVAS in = canvas_of_noise(10, 10, 3);

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        CLEANUP(scratch_buffer_done) struct scratch_buffer work = {0};
        CANVAS out = canvas_new(50, 50, 3);
        struct operation_run run = {.in = in.pixels,
                                    .out = out.pixels,
                                    .size = {10, 10},
                                    .out_size = {10, 10},
                                    .bottom = 10,
                                    .bands = 3,
                                    .value = values[i][1],
                                    .work = &work,
                                    .cancelled = &cancelled};
        struct error err = {0};

        assert_fails(err, ERROR_DEADLINE, all[values[i][0]]->apply(&run, &err));
    }
}

TEST_MAIN(start_images, stop_images)
