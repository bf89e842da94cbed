/* mean=3..31: the average of the window around a pixel, each channel for itself, over the pixels
 * that exist, rounded down.
 *
 * Sums of columns are kept from row to row, sums of windows from pixel to pixel, so that the time
 * does not depend on the window. For few columns adding up anew is quicker. */
#include "image/ops/operations.h"
#include "image/ops/vectorised.h"

#include <string.h>

enum { MEAN_MAX = 31, FEW = 7 /* columns */ };
_Static_assert(MEAN_MAX *UINT8_MAX <= UINT16_MAX, "the sum of a column");

/* --- columns --- */

struct column_sums {
    uint16_t *sums;
    const uint8_t *add, *take; /* rows */
    size_t bytes;
};

VECTORISED_BODY void move_down_body(const struct column_sums *c)
{
    const uint8_t *add = c->add, *take = c->take;
    uint16_t *sums = c->sums;
    size_t bytes = c->bytes;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++)
        sums[i] = (uint16_t)(sums[i] + add[i] - take[i]);
}
VECTORISED_FORMS(move_down, struct column_sums)

/* --- windows --- */

struct mean_row {
    const uint16_t *sums; /* of columns */
    uint32_t *totals;     /* of windows */
    uint8_t *out;
    size_t bytes, bands;
    int rows; /* that the window has here */
};

/* Windows of k columns that all exist: `sums` and `out` begin with the first such. The product with
 * the reciprocal, rounded up, is exact: n pixels sum up to at most 255 n, and the reciprocal's
 * error is under 1 of 1 << (16 + shift), where 1 << shift is at least n / 2: less than a pixel's
 * part as long as n < 128. */
VECTORISED_BODY void mean_few_body(const struct mean_row *m, size_t k)
{
    const uint16_t *sums = m->sums;
    const unsigned n = (unsigned)m->rows * (unsigned)k;
    const int shift = 31 - __builtin_clz(n - 1);
    const uint16_t share = (uint16_t)((1U << (16 + shift)) / n + 1);
    const size_t bytes = m->bytes, bands = m->bands;
    uint8_t *out = m->out;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++) {
        uint16_t total = 0;

        for (size_t column = 0; column < k; column++)
            total = (uint16_t)(total + sums[i + column * bands]);
        out[i] = (uint8_t)((uint16_t)((uint32_t)total * share >> 16) >> shift);
    }
}

VECTORISED_BODY void mean_3_body(const struct mean_row *m)
{
    mean_few_body(m, 3);
}
VECTORISED_FORMS(mean_3, struct mean_row)

VECTORISED_BODY void mean_5_body(const struct mean_row *m)
{
    mean_few_body(m, 5);
}
VECTORISED_FORMS(mean_5, struct mean_row)

VECTORISED_BODY void mean_7_body(const struct mean_row *m)
{
    mean_few_body(m, 7);
}
VECTORISED_FORMS(mean_7, struct mean_row)

struct division {
    const uint32_t *totals;
    uint8_t *out;
    size_t bytes;
    float share;
};

/* Exact: half a pixel's part is far more than what a float with 24 bits loses of 31 * 31 * 255. */
VECTORISED_BODY void divide_body(const struct division *d)
{
    const uint32_t *totals = d->totals;
    uint8_t *out = d->out;
    const float share = d->share;
    size_t bytes = d->bytes;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(int32_t)(((float)(int32_t)totals[i] + 0.5F) * share);
}
VECTORISED_FORMS(divide, struct division)

/* On to the window of pixel x: a column more, one less, and its sum is noted, where there is one.
 */
VECTORISED_BODY void add_column(const struct mean_row *m, int k, size_t bands, int x,
                                uint32_t sum[4], bool more, bool less)
{
    for (size_t c = 0; c < bands; c++) {
        if (more)
            sum[c] += m->sums[(size_t)(x + k / 2) * bands + c];
        if (less)
            sum[c] -= m->sums[(size_t)(x - k / 2 - 1) * bands + c];
        if (x >= 0)
            m->totals[(size_t)x * bands + c] = sum[c];
    }
}

/* The sums of the windows of one row. `bands` is a constant, so that they stay in registers. */
VECTORISED_BODY void add_columns_of(const struct mean_row *m, int k, size_t bands)
{
    const int width = (int)(m->bytes / bands), reach = k / 2;
    uint32_t sum[4] = {0};
    int x = -reach;

    for (; x <= reach && x < width; x++)
        add_column(m, k, bands, x, sum, x + reach < width, false);
    for (; x < width - reach; x++)
        add_column(m, k, bands, x, sum, true, true);
    for (; x < width; x++)
        add_column(m, k, bands, x, sum, false, true);
}

VECTORISED static void add_columns(const struct mean_row *m, int k)
{
    switch (m->bands) {
    case 1:
        add_columns_of(m, k, 1);
        break;
    case 2:
        add_columns_of(m, k, 2);
        break;
    case 3:
        add_columns_of(m, k, 3);
        break;
    default:
        add_columns_of(m, k, 4);
    }
}

/* How many columns the window of the pixel x has. */
static int columns_at(int x, int width, int reach)
{
    int first = x < reach ? 0 : x - reach, last = x + reach < width ? x + reach : width - 1;

    return last - first + 1;
}

static void mean_edge(const struct mean_row *m, int x, int k)
{
    const int width = (int)(m->bytes / m->bands);
    const uint32_t count = (uint32_t)(columns_at(x, width, k / 2) * m->rows);

    for (size_t i = (size_t)x * m->bands; i < (size_t)(x + 1) * m->bands; i++)
        m->out[i] = (uint8_t)(m->totals[i] / count);
}

/* The totals of the outermost pixels alone. */
static void add_edges(const struct mean_row *m, int k)
{
    const int width = (int)(m->bytes / m->bands), reach = k / 2;

    for (int x = 0; x < width; x++) {
        if (x == reach && width > 2 * reach)
            x = width - reach;
        const int first = x < reach ? 0 : x - reach, count = columns_at(x, width, reach);

        for (size_t c = 0; c < m->bands; c++) {
            uint32_t total = 0;

            for (int i = first; i < first + count; i++)
                total += m->sums[(size_t)i * m->bands + c];
            m->totals[(size_t)x * m->bands + c] = total;
        }
    }
}

static void mean_of_row(const struct operation_run *run, const struct mean_row *m)
{
    const int k = run->value, reach = k / 2, width = run->size.width;
    const size_t edge = (size_t)reach * m->bands;

    if (k <= FEW)
        add_edges(m, k);
    else
        add_columns(m, k);
    for (int x = 0; x < reach && x < width; x++)
        mean_edge(m, x, k);
    for (int x = width - reach > reach ? width - reach : reach; x < width; x++)
        mean_edge(m, x, k);
    if (width <= 2 * reach)
        return;
    if (k <= FEW)
        (k == 3   ? mean_3
         : k == 5 ? mean_5
                  : mean_7)(run->portable, &(struct mean_row){.sums = m->sums,
                                                              .out = m->out + edge,
                                                              .bytes = m->bytes - 2 * edge,
                                                              .bands = m->bands,
                                                              .rows = m->rows});
    else
        divide(run->portable, &(struct division){m->totals + edge, m->out + edge,
                                                 m->bytes - 2 * edge, 1.0F / (float)(k * m->rows)});
}

static bool apply(const struct operation_run *run, struct error *err)
{
    const size_t bytes = operation_row_bytes(run);
    const int reach = run->value / 2, height = run->size.height;
    const int first = run->top > reach ? run->top - reach : 0; /* of the rows that are looked at */

    if (!scratch_buffer_need(run->work,
                             bytes * (sizeof(uint32_t) + sizeof(uint16_t) + sizeof(uint8_t)), err))
        return false;
    uint32_t *totals = (uint32_t *)(void *)run->work->data;
    uint16_t *sums = (uint16_t *)(void *)(totals + bytes);
    uint8_t *nothing = (uint8_t *)(sums + bytes); /* a row beside the picture */
    memset(sums, 0, bytes * (sizeof(*sums) + sizeof(*nothing)));
    for (int y = first - reach; y < run->bottom; y++) {
        const bool more = y + reach < height, less = y - reach - 1 >= first;

        move_down(run->portable,
                  &(struct column_sums){
                      sums, more ? run->in + (size_t)(y + reach) * bytes : nothing,
                      less ? run->in + (size_t)(y - reach - 1) * bytes : nothing, bytes});
        if (y < run->top)
            continue;
        if (y % OPERATION_ROWS == 0 && !image_cancelled_check(run->cancelled, err))
            return false;
        mean_of_row(run, &(struct mean_row){sums, totals, run->out + (size_t)y * bytes, bytes,
                                            (size_t)run->bands, columns_at(y, height, reach)});
    }
    return true;
}

static bool parse(const char *name, const char *value, int *ret, struct error *err)
{
    return operation_parse_window(name, value, MEAN_MAX, ret, err);
}

static double cost_ns(int value)
{
    return value <= FEW ? 1 : 8;
}

const struct operation operation_mean = {
    .name = "mean", .parse = parse, .cost_ns = cost_ns, .apply = apply};
