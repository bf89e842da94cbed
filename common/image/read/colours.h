#ifndef DARKROOM_IMAGE_READ_COLOURS_H
#define DARKROOM_IMAGE_READ_COLOURS_H

#include "image/worker.h"

/* RGB in memory, of which all three bytes are the same when it was decoded from grey. */
struct colours_pixels {
    uint8_t *rgb;
    size_t count;
    int bands; /* of the file: 1 or 3 */
};

/* To sRGB, in place, by the profile (empty: none). One that does not work (broken, or for another
 * number of channels) is ignored, as viewers do. Fails without memory only (ERROR_OVERLOADED). */
bool colours_to_srgb(struct colours *c, struct bytes profile, struct colours_pixels *pixels,
                     struct error *err) NODISCARD;

/* Whether an ICC profile says what sRGB says. */
bool icc_is_srgb(struct bytes profile);

#endif
