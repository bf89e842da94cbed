/* The tables of one axis of a resize. */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RESAMPLE_BOX_FROM = 10,
    RESAMPLE_TAPS_MAX = 64,  /* 6 * RESAMPLE_BOX_FROM, and what rounding to whole pairs adds */
    RESAMPLE_COEF_BITS = 14, /* Lanczos weights stay below 2 */
};

struct resample_buffer {
    void *data;
    size_t size;
};

/* One axis: which cells (pixels, or boxes of them) make an output, and how much of each. */
struct resample_axis {
    int src, out;         /* the geometry these tables are for */
    double start, length; /* of the window */
    int box;              /* pixels in a cell */
    int first, last;      /* pixels needed: [first, last) */
    int cells;
    bool whole;                   /* output i is pixel first + i: neither scaled nor shifted */
    int taps;                     /* of each output, even; some may weigh nothing */
    struct resample_buffer cell;  /* int[out]: the first tap, counted from `first` */
    struct resample_buffer coefs; /* int16_t[out * taps]: 1 << 14 is 1 */
};

/* At least `size` bytes; what was there is lost. */
bool resample_buffer_grow(struct resample_buffer *buffer, size_t size, struct error *err) NODISCARD;

/* Make the tables for `src`, `out`, `start` and `length` of `wanted`, unless they are in *axis.
 * The first tap of an output is a multiple of `align` (1 or 2). */
bool resample_axis_set(struct resample_axis *axis, const struct resample_axis *wanted, int align,
                       struct error *err) NODISCARD;
