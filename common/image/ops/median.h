/* What the two ways to a median share. */
#pragma once

#include "image/ops/operations.h"

enum { MEDIAN_MAX = 15 };

/* The row `y` of the picture, whose first and last rows go on for ever. */
static inline const uint8_t *median_source(const struct operation_run *run, int y)
{
    int last = run->size.height - 1;

    return run->in + (size_t)(y < 0 ? 0 : y > last ? last : y) * operation_row_bytes(run);
}

/* Windows of any odd size up to MEDIAN_MAX, in a time that does not depend on it. */
bool median_by_histogram(const struct operation_run *run, struct error *err) NODISCARD;
