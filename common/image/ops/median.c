/* median=3..15: of the window around a pixel, each channel for itself; the edge is repeated. Takes
 * away grain and specks, and keeps edges.
 *
 * 3 and 5 by networks of minimum and maximum. The columns of a row's windows are sorted once and
 * serve all windows that they are in; what is left of a window are sorted columns, which need far
 * fewer steps: 88 of minimum or maximum for 5 x 5, after 18 for its own column, where a network for
 * 25 unsorted values takes about 174 (99 exchanges: N. Devillard, "Fast median search", 1998). */
#include "image/ops/median.h"
#include "image/ops/vectorised.h"

#include <string.h>

#define EXCHANGE(a, b)                                                                             \
    do {                                                                                           \
        uint8_t low = a < b ? a : b;                                                               \
        b = a < b ? b : a;                                                                         \
        a = low;                                                                                   \
    } while (0)

/* --- columns --- */

struct columns {
    const uint8_t *rows[5];
    size_t bytes;
    uint8_t *sorted; /* the smallest of every column, then the next, … */
    size_t stride;
};

VECTORISED_BODY void sort_3_body(const struct columns *s)
{
    const uint8_t *r0 = s->rows[0], *r1 = s->rows[1], *r2 = s->rows[2];
    uint8_t *s0 = s->sorted, *s1 = s0 + s->stride, *s2 = s1 + s->stride;
    size_t bytes = s->bytes;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++) {
        uint8_t a = r0[i], b = r1[i], c = r2[i];

        EXCHANGE(a, b);
        EXCHANGE(b, c);
        EXCHANGE(a, b);
        s0[i] = a;
        s1[i] = b;
        s2[i] = c;
    }
}
VECTORISED_FORMS(sort_3, struct columns)

VECTORISED_BODY void sort_5_body(const struct columns *s)
{
    const uint8_t *r0 = s->rows[0], *r1 = s->rows[1], *r2 = s->rows[2], *r3 = s->rows[3],
                  *r4 = s->rows[4];
    uint8_t *s0 = s->sorted, *s1 = s0 + s->stride, *s2 = s1 + s->stride, *s3 = s2 + s->stride,
            *s4 = s3 + s->stride;
    size_t bytes = s->bytes;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++) {
        uint8_t a = r0[i], b = r1[i], c = r2[i], d = r3[i], e = r4[i];

        EXCHANGE(a, d);
        EXCHANGE(b, e);
        EXCHANGE(a, c);
        EXCHANGE(b, d);
        EXCHANGE(a, b);
        EXCHANGE(c, e);
        EXCHANGE(b, c);
        EXCHANGE(d, e);
        EXCHANGE(c, d);
        s0[i] = a;
        s1[i] = b;
        s2[i] = c;
        s3[i] = d;
        s4[i] = e;
    }
}
VECTORISED_FORMS(sort_5, struct columns)

/* --- windows --- */

struct windows {
    const uint8_t *sorted; /* beginning with the column left of the first pixel's own */
    size_t stride, bands, bytes;
    uint8_t *out;
};

/* The median of nine is that of: the largest of the smallest, the middle of the middle ones, the
 * smallest of the largest. */
VECTORISED_BODY void median_3_body(const struct windows *w)
{
    const uint8_t *s0 = w->sorted, *s1 = s0 + w->stride, *s2 = s1 + w->stride;
    size_t bytes = w->bytes, k = w->bands;
    uint8_t *out = w->out;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++) {
        uint8_t a = s0[i], b = s0[i + k], c = s0[i + 2 * k];
        uint8_t d = s1[i], e = s1[i + k], f = s1[i + 2 * k];
        uint8_t g = s2[i], h = s2[i + k], j = s2[i + 2 * k];

        EXCHANGE(a, b);
        EXCHANGE(b, c);
        EXCHANGE(d, e);
        EXCHANGE(e, f);
        EXCHANGE(d, e);
        EXCHANGE(g, h);
        EXCHANGE(g, j);
        EXCHANGE(c, e);
        EXCHANGE(e, g);
        EXCHANGE(c, e);
        out[i] = e;
    }
}
VECTORISED_FORMS(median_3, struct windows)

/* Found by a search: a network for the 13 values that can still be the median, from which every
 * exchange was taken that changes nothing for any sorted columns (7,776 cases of zeros and ones
 * prove it: Knuth, TAOCP 3, 5.3.4, the zero-one principle). */
VECTORISED_BODY void median_5_body(const struct windows *w)
{
    const uint8_t *a = w->sorted, *b = a + w->stride, *c = b + w->stride, *d = c + w->stride,
                  *e = d + w->stride;
    size_t bytes = w->bytes, k = w->bands;
    uint8_t *out = w->out;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++) {
        uint8_t a0 = a[i], a1 = a[i + k], a2 = a[i + 2 * k], a3 = a[i + 3 * k], a4 = a[i + 4 * k];
        uint8_t b0 = b[i], b1 = b[i + k], b2 = b[i + 2 * k], b3 = b[i + 3 * k], b4 = b[i + 4 * k];
        uint8_t c0 = c[i], c1 = c[i + k], c2 = c[i + 2 * k], c3 = c[i + 3 * k], c4 = c[i + 4 * k];
        uint8_t d0 = d[i], d1 = d[i + k], d2 = d[i + 2 * k], d3 = d[i + 3 * k], d4 = d[i + 4 * k];
        uint8_t e0 = e[i], e1 = e[i + k], e2 = e[i + 2 * k], e3 = e[i + 3 * k], e4 = e[i + 4 * k];

        /* clang-format off */
        EXCHANGE(a0, a2); EXCHANGE(a1, a3); EXCHANGE(a0, a1); EXCHANGE(a2, a4);
        EXCHANGE(a1, a2); EXCHANGE(a3, a4); EXCHANGE(a2, a3); EXCHANGE(b0, b3);
        EXCHANGE(b1, b4); EXCHANGE(b1, b3); EXCHANGE(b0, b1); EXCHANGE(b2, b4);
        EXCHANGE(b1, b2); EXCHANGE(b3, b4); EXCHANGE(b2, b3); EXCHANGE(c0, c3);
        EXCHANGE(c1, c4); EXCHANGE(c0, c2); EXCHANGE(c1, c3); EXCHANGE(c0, c1);
        EXCHANGE(c2, c4); EXCHANGE(c1, c2); EXCHANGE(c3, c4); EXCHANGE(c2, c3);
        EXCHANGE(d0, d3); EXCHANGE(d1, d4); EXCHANGE(d0, d2); EXCHANGE(d1, d3);
        EXCHANGE(d0, d1); EXCHANGE(d2, d4); EXCHANGE(d1, d2); EXCHANGE(d2, d3);
        EXCHANGE(e0, e3); EXCHANGE(e1, e4); EXCHANGE(e0, e2); EXCHANGE(e1, e3);
        EXCHANGE(e0, e1); EXCHANGE(e2, e4); EXCHANGE(e1, e2); EXCHANGE(a4, c2);
        EXCHANGE(b3, d1); EXCHANGE(a4, e0); EXCHANGE(c2, e0); EXCHANGE(b3, c2);
        EXCHANGE(a3, b2); EXCHANGE(c1, a4); EXCHANGE(e0, c2); EXCHANGE(d1, e1);
        EXCHANGE(c3, d2); EXCHANGE(b2, a4); EXCHANGE(a4, d0); EXCHANGE(c3, b4);
        EXCHANGE(d0, e0); EXCHANGE(e0, c3); EXCHANGE(e0, d1); EXCHANGE(d0, e0);
        /* clang-format on */
        out[i] = e0;
    }
}
VECTORISED_FORMS(median_5, struct windows)

/* --- the picture --- */

/* The outermost columns once more, `times` times. */
static void repeat_edges(uint8_t *row, size_t bytes, size_t bands, int times)
{
    uint8_t *first = row, *end = row + bytes;

    for (int i = 0; i < times; i++, end += bands) {
        memcpy(first - bands, first, bands);
        memcpy(end, end - bands, bands);
        first -= bands;
    }
}

static bool median_by_network(const struct operation_run *run, struct error *err)
{
    const int k = run->value, reach = k / 2;
    const size_t bytes = operation_row_bytes(run), bands = (size_t)run->bands;
    const size_t edge = (size_t)reach * bands, stride = bytes + 2 * edge;

    if (!scratch_buffer_need(run->work, (size_t)k * stride, err))
        return false;
    uint8_t *sorted = run->work->data;
    for (int y = run->top; y < run->bottom; y++) {
        struct columns columns = {.bytes = bytes, .sorted = sorted + edge, .stride = stride};

        if (y % OPERATION_ROWS == 0 && !image_cancelled_check(run->cancelled, err))
            return false;
        for (int i = 0; i < (int)ARRAY_SIZE(columns.rows); i++) /* for 3 two too many */
            columns.rows[i] = median_source(run, y - reach + i);
        (k == 3 ? sort_3 : sort_5)(run->portable, &columns);
        for (int i = 0; i < k; i++)
            repeat_edges(sorted + (size_t)i * stride + edge, bytes, bands, reach);
        (k == 3 ? median_3 : median_5)(
            run->portable,
            &(struct windows){sorted, stride, bands, bytes, run->out + (size_t)y * bytes});
    }
    return true;
}

static bool parse(const char *name, const char *value, int *ret, struct error *err)
{
    return operation_parse_window(name, value, MEDIAN_MAX, ret, err);
}

static double cost_ns(int value)
{
    return value == 3 ? 1 : value == 5 ? 4 : 60;
}

static bool apply(const struct operation_run *run, struct error *err)
{
    return run->value <= 5 ? median_by_network(run, err) : median_by_histogram(run, err);
}

const struct operation operation_median = {
    .name = "median", .parse = parse, .cost_ns = cost_ns, .apply = apply};
