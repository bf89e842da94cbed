/* From the file to rows of pixels, fed to a resampler. */
#pragma once

#include "image/image.h"
#include "image/read/jpeg_guard.h"
#include "image/resample/resample.h"
#include "image/scratch_buffer.h"

/* A libjpeg decoder for one image: tables that a file defines outlive it in the decoder, and
 * another file could use them, so none is used twice (creating one costs 2 us). Freed by
 * jpeg_decoder_done, also when nothing was opened. */
struct jpeg_decoder {
    struct jpeg_guard guard;
    struct jpeg_decompress_struct codec;
    struct bytes data;
    bool suspect; /* of a code that does not exist */
    struct resample *resample;
    struct scratch_buffer *rows;
    uint8_t *pixels;   /* of the whole picture */
    double resample_s; /* of the time, what the resampler took */
    /* for looking at every code: */
    struct jpeg_source_mgr source;
    size_t handed; /* bytes of `data` that the source has given */
};

/* Read the header, which must say what the probe's does. ERROR_BAD_IMAGE. */
bool jpeg_decoder_open(struct jpeg_decoder *d, const struct image_input *input,
                       const struct image_header *header, struct error *err) NODISCARD;
void jpeg_decoder_done(struct jpeg_decoder *d);

/* Decode 1/denominator (1, 2, 4 or 8) of the size, and feed the rows and columns that `resample`,
 * which has begun, asks for. The file is always read to its end. `rows` is the decoder's.
 * ERROR_BAD_IMAGE, ERROR_DEADLINE, ERROR_OVERLOADED. */
bool jpeg_decoder_read(struct jpeg_decoder *d, int denominator, struct resample *resample,
                       struct scratch_buffer *rows, struct error *err) NODISCARD;

/* Instead: all of it, row behind row without gaps, to `pixels`, the caller's: the sides divided by
 * the denominator, rounded up, one byte a component (grey, RGB, or CMYK as Adobe stores it: the
 * absence of ink). */
bool jpeg_decoder_read_whole(struct jpeg_decoder *d, int denominator, uint8_t *pixels,
                             struct error *err) NODISCARD;
