/* mean=3..31: the average of the window around a pixel, each channel for itself, over the pixels
 * that exist, rounded down.
 *
 * Sums of columns are kept from row to row, sums of windows from pixel to pixel, so that the time
 * does not depend on the window. Only for 3 adding up anew is quicker. */
#include "image/ops/operations.h"
#include "image/ops/vectorised.h"

#include <string.h>

enum { MEAN_MAX = 31 };
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

/* Windows of three columns that all exist: `sums` and `out` begin with the first such. The product
 * with the reciprocal, rounded up, is exact: a sum is at most 2295, and its error at most 9 times
 * that, under 1 << 16. */
VECTORISED_BODY void mean_3_body(const struct mean_row *m)
{
    const uint16_t *sums = m->sums;
    const uint16_t share = (uint16_t)((1 << 16) / (3 * m->rows) + 1);
    size_t bytes = m->bytes, k = m->bands;
    uint8_t *out = m->out;

    VECTORISED_LOOP
    for (size_t i = 0; i < bytes; i++) {
        uint16_t total = (uint16_t)(sums[i] + sums[i + k] + sums[i + 2 * k]);

        out[i] = (uint8_t)((uint32_t)total * share >> 16);
    }
}
VECTORISED_FORMS(mean_3, struct mean_row)

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
static void add_edges_3(const struct mean_row *m)
{
    const size_t b = m->bands, last = m->bytes - b;

    for (size_t c = 0; c < b; c++) {
        m->totals[c] = m->sums[c] + (last > 0 ? (uint32_t)m->sums[b + c] : 0);
        if (last > 0)
            m->totals[last + c] = (uint32_t)m->sums[last + c] + m->sums[last - b + c];
    }
}

static void mean_of_row(const struct operation_run *run, const struct mean_row *m)
{
    const int k = run->value, reach = k / 2, width = run->size.width;
    const size_t edge = (size_t)reach * m->bands;

    if (k == 3)
        add_edges_3(m);
    else
        add_columns(m, k);
    for (int x = 0; x < reach && x < width; x++)
        mean_edge(m, x, k);
    for (int x = width - reach > reach ? width - reach : reach; x < width; x++)
        mean_edge(m, x, k);
    if (width <= 2 * reach)
        return;
    if (k == 3)
        mean_3(run->portable, &(struct mean_row){.sums = m->sums,
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
    return value == 3 ? 1 : 8;
}

const struct operation operation_mean = {
    .name = "mean", .parse = parse, .cost_ns = cost_ns, .apply = apply};
