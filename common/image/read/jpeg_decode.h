/* From the file to rows of pixels, fed to a resampler. */
#ifndef DARKROOM_IMAGE_READ_JPEG_DECODE_H
#define DARKROOM_IMAGE_READ_JPEG_DECODE_H

#include "base/bytes.h"
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
    struct resample *resample;
    struct scratch_buffer *rows;
    double resample_s; /* of the time, what the resampler took */
    /* for looking at every code: */
    struct jpeg_source_mgr source;
    size_t handed; /* bytes of `data` that the source has given */
};

/* Read the header. ERROR_BAD_IMAGE. */
bool jpeg_decoder_open(struct jpeg_decoder *d, struct bytes data, const atomic_bool *cancelled,
                       struct error *err) NODISCARD;
void jpeg_decoder_done(struct jpeg_decoder *d);

/* Decode 1/denominator (1, 2, 4 or 8) of the size, and feed the rows and columns that `resample`,
 * which has begun, asks for. The file is always read to the end of its last scan. `rows` is the
 * decoder's. ERROR_BAD_IMAGE, ERROR_DEADLINE, ERROR_OVERLOADED. */
bool jpeg_decoder_read(struct jpeg_decoder *d, int denominator, struct resample *resample,
                       struct scratch_buffer *rows, struct error *err) NODISCARD;

#endif
