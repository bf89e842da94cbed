#include "image/resample/resample.h"

#include "image/resample/resample_kernels.h"

#include <math.h>
#include <string.h>

/* --- the plan --- */

static bool axis_fits(int src, double start, double length, int out)
{
    return src > 0 && src <= RESAMPLE_SOURCE_SIDE_MAX && out > 0 && out <= RESAMPLE_SIDE_MAX &&
           start > -1 && length > 0 && start + length < src + 1.0 && start < src;
}

static bool plan_check(const struct resample_plan *p, struct error *err)
{
    if (!axis_fits(p->src_width, p->left, p->width, p->out_width) ||
        !axis_fits(p->src_height, p->top, p->height, p->out_height) ||
        (int64_t)p->out_width * p->out_height > RESAMPLE_OUT_PIXELS_MAX || p->out == NULL ||
        p->out_stride < (size_t)p->out_width * 3 || p->out_stride > SIZE_MAX / RESAMPLE_SIDE_MAX)
        return error_set(err, ERROR_INTERNAL, "no way to resize %dx%d to %dx%d", p->src_width,
                         p->src_height, p->out_width, p->out_height);
    return true;
}

static size_t columns(const struct resample *r)
{
    return (size_t)(r->last_col - r->first_col);
}

/* Pixels of a row of the ring. */
static size_t ring_width(const struct resample *r)
{
    return ((size_t)r->across.cells + RESAMPLE_BLOCK - 1) / RESAMPLE_BLOCK * RESAMPLE_BLOCK;
}

static bool boxed(const struct resample *r)
{
    return r->across.box > 1 || r->down.box > 1;
}

/* At most 17 MB, 0.6 MB and 1 MB for sources of up to 65535 a side; ten times that for longer ones.
 * What is read with a weight of nothing without ever having been written shall be initialised all
 * the same. */
static bool buffers_grow(struct resample *r, struct error *err)
{
    size_t ring = ring_width(r) * 4 * (size_t)r->down.taps;
    size_t line = (ring_width(r) + RESAMPLE_TAPS_MAX) * 4 * sizeof(int16_t);
    size_t boxes = boxed(r) ? columns(r) * 4 * sizeof(uint32_t) : 0;

    if (!resample_buffer_grow(&r->ring, ring, err) || !resample_buffer_grow(&r->line, line, err) ||
        !resample_buffer_grow(&r->boxes, boxes, err))
        return false;
    memset(r->ring.data, 0, ring);
    memset(r->line.data, 0, line);
    if (boxes > 0)
        memset(r->boxes.data, 0, boxes);
    return true;
}

bool resample_begin(struct resample *r, const struct resample_plan *plan, struct error *err)
{
    struct resample_axis across = {
        .src = plan->src_width, .out = plan->out_width, .start = plan->left, .length = plan->width};
    struct resample_axis down = {.src = plan->src_height,
                                 .out = plan->out_height,
                                 .start = plan->top,
                                 .length = plan->height};

    r->plan = *plan;
    r->rows_in = 0;
    r->rows_out = 0;
    r->first_row = 0; /* after a failure rows are ignored */
    r->last_row = 0;
    if (!plan_check(plan, err) || !resample_axis_set(&r->across, &across, 2, err) ||
        !resample_axis_set(&r->down, &down, 1, err))
        return false;
    r->first_col = r->across.first;
    r->last_col = r->across.last;
    if (!buffers_grow(r, err))
        return false;
    r->first_row = r->down.first;
    r->last_row = r->down.last;
    return true;
}

/* --- rows --- */

static uint8_t *ring_row(const struct resample *r, int row)
{
    return (uint8_t *)r->ring.data + (size_t)(row % r->down.taps) * ring_width(r) * 4;
}

/* The source row `row` goes into its box; true when the box is full. The last row of the source
 * also counts for what its box lacks. */
static bool boxes_add(struct resample *r, int row, const uint8_t *rgbx)
{
    uint32_t *sums = r->boxes.data;
    int in_box = row % r->down.box;
    bool ends = row + 1 == r->last_row - r->first_row;
    uint32_t lacks = ends ? (uint32_t)(r->down.box - 1 - in_box) : 0;

    if (in_box == 0)
        memset(sums, 0, columns(r) * 4 * sizeof(*sums));
    resample_add(rgbx, columns(r), sums);
    if (lacks > 0)
        for (size_t i = 0; i < columns(r) * 4; i++)
            sums[i] += lacks * rgbx[i];
    return ends || in_box + 1 == r->down.box;
}

/* Every output row whose cells are there. */
static void finish_rows(struct resample *r, int newest)
{
    struct resample_column column = {.taps = r->down.taps};
    const int *cell = r->down.cell.data;
    const int16_t *coefs = r->down.coefs.data;

    while (r->rows_out < r->plan.out_height) {
        int first = cell[r->rows_out], last = first + column.taps - 1;

        if (newest < last && newest < r->down.cells - 1)
            return;
        for (int k = 0; k < column.taps; k++)
            column.rows[k] = ring_row(r, first + k);
        column.coefs = coefs + (size_t)r->rows_out * (size_t)column.taps;
        resample_down(&column, r->across.cells, r->line.data);
        resample_across(&r->across, r->line.data,
                        r->plan.out + (size_t)r->rows_out * r->plan.out_stride);
        r->rows_out++;
    }
}

bool resample_row(struct resample *r, const uint8_t *rgbx)
{
    int row = r->rows_in;

    if (row < r->last_row - r->first_row && r->rows_out < r->plan.out_height) {
        const struct resample_box box = {(size_t)r->across.box, (size_t)r->down.box};
        int cell = row / r->down.box;

        r->rows_in++;
        if (r->across.whole && r->down.whole) {
            resample_copy(rgbx, columns(r), r->plan.out + (size_t)row * r->plan.out_stride);
            r->rows_out++;
            return r->rows_out == r->plan.out_height;
        }
        if (!boxed(r))
            memcpy(ring_row(r, cell), rgbx, columns(r) * 4);
        else if (boxes_add(r, row, rgbx))
            resample_average(r->boxes.data, columns(r), &box, ring_row(r, cell));
        else
            return false;
        finish_rows(r, cell);
    }
    return r->rows_out == r->plan.out_height;
}

/* --- memory --- */

static void buffer_free(struct resample_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct resample_buffer){0};
}

void resample_trim(struct resample *r, size_t keep_bytes)
{
    if (r->ring.size + r->line.size + r->boxes.size + r->across.cell.size + r->across.coefs.size +
            r->down.cell.size + r->down.coefs.size >
        keep_bytes)
        resample_done(r);
}

void resample_done(struct resample *r)
{
    buffer_free(&r->ring);
    buffer_free(&r->line);
    buffer_free(&r->boxes);
    buffer_free(&r->across.cell);
    buffer_free(&r->across.coefs);
    buffer_free(&r->down.cell);
    buffer_free(&r->down.coefs);
    *r = (struct resample){0};
}
