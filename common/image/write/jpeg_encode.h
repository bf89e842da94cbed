/* Writing JPEG by libjpeg-turbo directly. */
#pragma once

#include "image/private.h"
#include "image/scratch_buffer.h"

struct jpeg_encoder *jpeg_encoder_new(struct error *err) NODISCARD;
void jpeg_encoder_free(struct jpeg_encoder *encoder);

struct jpeg_encode {
    const struct picture *picture;
    int quality;                  /* libjpeg's */
    const atomic_bool *cancelled; /* may be NULL */
};
/* A baseline JPEG without metadata, in *out, of which it takes *len bytes. ERROR_DEADLINE,
 * ERROR_OVERLOADED (memory), ERROR_INTERNAL. */
bool jpeg_encode(struct jpeg_encoder *encoder, const struct jpeg_encode *what,
                 struct scratch_buffer *out, size_t *len, struct error *err) NODISCARD;
