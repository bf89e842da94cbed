#pragma once

#include "base/bytes.h"
#include "image/scratch_buffer.h"

/* The transforms for the last few embedded profiles; see colours.c. All zero: none yet. */
enum { COLOURS_KEPT = 4 };
struct colours {
    void *context; /* lcms's */
    struct colour_profile {
        struct scratch_buffer data;
        size_t len;
        int bands;       /* of the file: 1 or 3; 0: nothing is kept here */
        void *transform; /* lcms's; NULL: the profile does not work */
    } kept[COLOURS_KEPT];
    size_t next; /* the one to be given up */
};
void colours_done(struct colours *c);
/* Give back the profiles larger than that. */
void colours_trim(struct colours *c, size_t keep_bytes);

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
