/* Resize of 8 bit images, row by row: a decoder feeds the source from top to bottom and finished
 * rows appear in the caller's image. Shrinking, Lanczos3 (a = 3, Duchon 1979), widened by the
 * factor, so that nothing aliases; enlarging, Catmull-Rom's cubic (Keys 1981, a = -0.5), which
 * overshoots less at edges. Each axis for itself. Pixel centres at +0.5 and edges by repeating the
 * outermost pixel, as Pillow has it. Fixed point; within 1 of the same sums in double.
 * When an axis shrinks by more than RESAMPLE_BOX_FROM, whole boxes of pixels are averaged first.
 *
 * A `struct resample` belongs to one thread and starts as all zero:
 * buffers only grow, and the tables of the last geometry are kept, so that a resize like the one
 * before costs no set-up. No globals. */
#pragma once

#include "image/resample/resample_axis.h"

enum {
    RESAMPLE_SOURCE_SIDE_MAX = 10000000,          /* libvips' own limit */
    RESAMPLE_SIDE_MAX = 65535,                    /* of the output */
    RESAMPLE_OUT_PIXELS_MAX = 1024 * 1024 * 1024, /* of the output: what is copied whole, too */
};

/* A window of the source becomes out_width x out_height pixels of RGB, 3 bytes each. Pixels beside
 * the window are neighbours like any other. The window may leave the source by less than a pixel,
 * as the rounding of a caller's sums does. `out` is borrowed until all is done, and holds
 * (out_height - 1) * out_stride + 3 * out_width bytes; not a byte beyond or between is written. */
struct resample_plan {
    int src_width, src_height;
    double left, top, width, height; /* the window, in pixels of the source */
    int out_width, out_height;
    uint8_t *out;
    size_t out_stride; /* bytes */
};

struct resample {
    /* After resample_begin: the source rows and columns to feed, [first, last). */
    int first_row, last_row, first_col, last_col;

    /* The rest is resample.c's. */
    struct resample_plan plan;
    struct resample_axis across, down;
    struct resample_buffer ring;  /* the last rows of cells, RGBX */
    struct resample_buffer line;  /* one row, resized downwards only: int16_t */
    struct resample_buffer boxes; /* sums of the row of boxes being filled: uint32_t */
    int rows_in;                  /* source rows taken */
    int rows_out;
};

/* Check the plan and get ready. Fails with ERROR_INTERNAL (an impossible plan: a defect of the
 * caller) or ERROR_OVERLOADED (no memory); *r can be used again after either. Beginning again in
 * the middle of an image is fine. */
bool resample_begin(struct resample *r, const struct resample_plan *plan,
                    struct error *err) NODISCARD;

/* Take the next source row, `first_row` first: last_col - first_col pixels of 4 bytes, R G B and
 * one that is ignored (JCS_EXT_RGBX), beginning with `first_col`. Nothing is kept of `rgbx`.
 * Returns whether the output is complete, which it is after `last_row` - 1 at the latest; more rows
 * are ignored. Cannot fail. */
bool resample_row(struct resample *r, const uint8_t *rgbx);

/* Output rows complete so far, from the top: they may be used (encoded) while others are awaited.
 */
static inline int resample_rows_done(const struct resample *r)
{
    return r->rows_out;
}

/* Give all memory back if it is more than `keep_bytes`. Between images. */
void resample_trim(struct resample *r, size_t keep_bytes);

/* Free everything. Safe on an all-zero or a done one, which both can begin again. */
void resample_done(struct resample *r);
