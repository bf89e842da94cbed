/* The inner loops of a resize, and what they are on this processor. */
#pragma once

#include "image/resample/resample_axis.h"

enum {
    RESAMPLE_LINE_BITS = 6, /* fraction of the values between the two passes: +-512 in an int16 */
    RESAMPLE_BLOCK = 8,     /* pixels; rows of the ring and lines are padded to it */
};

/* Rows of RGBX pixels, weighed: taps of them, an even number. */
struct resample_column {
    const uint8_t *rows[RESAMPLE_TAPS_MAX];
    const int16_t *coefs;
    int taps;
};

/* Downwards: `cells` pixels (rounded up to whole blocks) of the sum of the rows into `line`. Pixels
 * are stored in pairs, R0 R1 G0 G1 B0 B1 X0 X1, in which form one multiplication serves two. */
void resample_down(const struct resample_column *column, int cells, int16_t *line);

/* Across: axis->out pixels of 3 bytes from a line that holds axis->cells + RESAMPLE_TAPS_MAX. */
void resample_across(const struct resample_axis *axis, const int16_t *line, uint8_t *out);

/* What the two are on this processor: the results are the same to the bit. */
void resample_down_128(const struct resample_column *column, int cells, int16_t *line);
void resample_across_128(const struct resample_axis *axis, const int16_t *line, uint8_t *out);
#ifdef __x86_64__
void resample_down_avx2(const struct resample_column *column, int cells, int16_t *line);
void resample_across_avx2(const struct resample_axis *axis, const int16_t *line, uint8_t *out);
#endif

/* From pixels of 4 bytes to pixels of 3. */
void resample_copy(const uint8_t *rgbx, size_t pixels, uint8_t *out);

/* The samples of a row to the sums of theirs. */
void resample_add(const uint8_t *row, size_t pixels, uint32_t *sums);

/* From the sums of columns to the averages of boxes. What the last box lacks is filled with the
 * last column. */
struct resample_box {
    size_t width, height;
};
void resample_average(const uint32_t *sums, size_t columns, const struct resample_box *box,
                      uint8_t *to);
