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
        struct colours_kind {
            int bands;   /* grey 1, RGB 3, CMYK 4; 0: nothing is kept here */
            int bits;    /* 8 or 16 */
        } kind;          /* of the pixels before */
        void *transform; /* lcms's; NULL: the profile does not work */
    } kept[COLOURS_KEPT];
    size_t next; /* the one to be given up */
};
void colours_done(struct colours *c);
/* Give back the profiles larger than that. */
void colours_trim(struct colours *c, size_t keep_bytes);

/* The transform of such pixels to 8 bit sRGB by the profile; empty, for CMYK: by libvips' own one.
 * NULL when the profile does not work (broken, or for another number of channels). It is kept until
 * the next calls. Fails without memory only (ERROR_OVERLOADED). */
bool colours_find(struct colours *c, struct bytes profile, struct colours_kind kind, void **ret,
                  struct error *err) NODISCARD;
/* So many pixels, into others or the same. Thread-safe. */
void colours_apply(void *transform, const void *from, uint8_t *rgb, size_t count);

/* RGB in memory, of which all three bytes are the same when it was decoded from grey. */
struct colours_pixels {
    uint8_t *rgb;
    size_t count;
    int bands; /* of the file: 1 or 3 */
};

/* To sRGB, in place, by the profile (empty: none). One that does not work is ignored, as viewers
 * do. Fails without memory only (ERROR_OVERLOADED). */
bool colours_to_srgb(struct colours *c, struct bytes profile, struct colours_pixels *pixels,
                     struct error *err) NODISCARD;

/* Whether an ICC profile says what sRGB says. */
bool icc_is_srgb(struct bytes profile);
