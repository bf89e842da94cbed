/* Against a plain separable Lanczos3 in double precision, and what can be said without one. */
#include "test_resample_reference.h"

/* Every form of the inner loops gives the same. */
TEST(test_kernels_agree)
{
    enum { CELLS = 41, OUT = 29 };
    CLEANUP(resample_done) struct resample r = {0};
    PICTURE p = draw_extremes(48, RESAMPLE_TAPS_MAX); /* padded to whole blocks */
    int16_t line[(48 + RESAMPLE_TAPS_MAX) * 4] = {0}, other[(48 + RESAMPLE_TAPS_MAX) * 4] = {0};
    uint8_t out[OUT * 3], plain[OUT * 3];
    struct error err = {0};

    for (int out_width = 1; out_width <= OUT; out_width++) {
        struct resample_axis wanted = {.src = CELLS, .out = out_width, .length = CELLS};
        struct resample_column column = {0};

        assert_true(resample_axis_set(&r.across, &wanted, 2, &err));
        column.taps = r.across.taps;
        column.coefs = r.across.coefs.data;
        for (int k = 0; k < column.taps; k++)
            column.rows[k] = pixel(&p, 0, k);
        resample_down(&column, r.across.cells, line);
        resample_down_128(&column, r.across.cells, other);
        assert_memory_equal(line, other, (size_t)r.across.cells / 2 * 8 * sizeof(*line));
        resample_across(&r.across, line, out);
        resample_across_128(&r.across, line, plain);
        assert_memory_equal(out, plain, (size_t)out_width * 3);
    }
}

static const int geometries[][4] = {
    {300, 300, 256, 256}, {375, 500, 256, 256}, {100, 75, 26, 26}, {64, 64, 200, 200},
    {64, 64, 64, 64},     {64, 64, 64, 20},     {64, 64, 20, 64},  {1, 1, 1, 1},
    {1, 1, 40, 30},       {1, 200, 30, 30},     {200, 1, 30, 30},  {2, 2, 50, 50},
    {5, 3, 1, 1},         {90, 90, 9, 9},       {30, 70, 7, 33},   {1000, 3, 101, 50},
    {3, 1000, 50, 101},   {7, 7, 1000, 1},      {3, 2, 1, 1500},   {128, 128, 64, 64},
};

TEST(test_like_reference)
{
    CLEANUP(resample_done) struct resample r = {0};

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
TEST(test_windows)
{
    CLEANUP(resample_done) struct resample r = {0};

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
TEST(test_large_factors)
{
    static const int sizes[][4] = {
        {600, 500, 20, 20}, {1201, 330, 100, 31}, {333, 1201, 31, 100}, {1900, 50, 17, 50}};
    static const struct tolerance boxes = {.most = 4, .mean = 0.6, .margin = 3};
    CLEANUP(resample_done) struct resample r = {0};

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        PICTURE p = draw_noise(sizes[i][0], sizes[i][1]);
        struct resample_plan plan = whole(&p, sizes[i][2], sizes[i][3]);

        assert_like_reference(&r, &p, &plan, boxes);
    }
}

TEST(test_plain_stays_plain)
{
    static const int sizes[][4] = {{65535, 1, 1, 1},   {1, 65535, 1, 1},    {65535, 3, 999, 5},
                                   {1, 1, 65535, 1},   {1, 1, 1, 65535},    {2, 2, 1, 65535},
                                   {333, 777, 50, 9},  {33, 77, 224, 224},  {1, 65535, 200, 7},
                                   {1000000, 1, 7, 1}, {1, 1000000, 1, 256}};
    static const uint8_t colours[][3] = {{255, 255, 255}, {0, 128, 255}, {1, 254, 127}};
    CLEANUP(resample_done) struct resample r = {0};

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

TEST(test_same_size_is_a_copy)
{
    PICTURE p = draw_noise(67, 41);
    struct resample_plan plan = whole(&p, 30, 20);

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
TEST(test_ramp)
{
    static const int widths[] = {1000, 256, 17, 3, 1};
    PICTURE p = draw(65535, 2);

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

TEST(test_impulse_is_symmetric)
{
    static const int widths[] = {7, 31, 40, 62, 63, 100, 301};
    PICTURE p = draw(63, 63);

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
TEST(test_only_the_window_is_asked_for)
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

    assert_true(resample_begin(&r, &plan, &err));
    assert_in_range(r.first_col, 393, 396);
    assert_in_range(r.last_col, 504, 507);
    assert_in_range(r.first_row, 694, 696);
    assert_int_equal(r.last_row, 800);
}

TEST(test_rows_come_as_soon_as_they_can)
{
    CLEANUP(resample_done) struct resample r = {0};
    struct error err = {0};
    uint8_t row[4 * 16] = {0}, out[3 * 16 * 16];
    PICTURE p = draw(16, 16);
    struct resample_plan plan = whole(&p, 16, 16);

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

TEST(test_bad_plans)
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

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = good;
    bad[0].src_width = 0;
    bad[1].src_height = 10000001;
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
    bad[13].out_width = bad[13].out_height = 40000;
    bad[13].out_stride = 120000;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (resample_begin(&r, &bad[i], &err))
            fail_msg("plan %zu was taken", i);
        assert_int_equal(err.code, ERROR_INTERNAL);
    }
    assert_true(resample_begin(&r, &good, &err));
}

/* A window that leaves the source a little, by someone's rounding. */
TEST(test_window_rounded_out)
{
    CLEANUP(resample_done) struct resample r = {0};
    PICTURE p = draw_noise(50, 50);
    struct resample_plan plan = whole(&p, 33, 70);

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

TEST(test_memory_is_given_back)
{
    CLEANUP(resample_done) struct resample r = {0};
    PICTURE small = draw_noise(20, 20);
    PICTURE large = draw_noise(3000, 40);
    struct resample_plan plan = whole(&small, 10, 10);

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

TEST_MAIN(NULL, NULL)
