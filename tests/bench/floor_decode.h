/* JPEG to the pixels that are wanted, by hand: libjpeg-turbo with handles that live as long as the
 * thread, DCT scaling as far as it leaves a factor of FLOOR_RESERVE to the resize, IDCT and colour
 * conversion only where pixels are needed, our resampler. The scan is read to its end, since the
 * services must notice a truncated file. Any error dies. */
#pragma once

#include "image/resample/resample.h"

#include <stdio.h> /* which jpeglib.h forgets */

#include <jpeglib.h>

enum { FLOOR_RESERVE = 2 }; /* as common/image has it */

struct floor_decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct resample resample;
    uint8_t *row; /* a decoded row, RGBX, of ROW_PIXELS_MAX */
};

/* What is wanted of a picture of width x height: the centre of the largest window of out's shape,
 * as out_width x out_height pixels, of which a tensor later drops `margin` on each side. */
struct floor_picture {
    int width, height;
    uint8_t *rgb; /* width x height x 3 */
};

void floor_decoder_init(struct floor_decoder *d);
void floor_decoder_done(struct floor_decoder *d);

/* Decode, crop to the centre and resize. A picture that is as large as `out` already is copied. */
void floor_decode(struct floor_decoder *d, const uint8_t *data, size_t len,
                  const struct floor_picture *out);
