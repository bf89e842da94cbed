/* Where every pixel goes: which window of the file's picture, how turned, how resized, and where on
 * its canvas. The same for both ways of decoding. */
#pragma once

#include "image/private.h"
#include "image/scratch.h"

/* How a stored picture becomes upright: its axes are mirrored, then exchanged. */
struct turn {
    bool mirror_x, mirror_y, swap;
};

/* Stored pixels (RGB, row behind row), looked at upright: pixel (x, y) is at
 * corner + x * across + y * down. */
struct turned {
    const uint8_t *corner;
    ptrdiff_t across, down;
};
struct turned turned_view(const uint8_t *pixels, int bands, struct image_size stored,
                          struct turn turn);

struct geometry {
    int width, height; /* of the file's picture, as stored */
    int joined;        /* so many pixels a side become one on the way: decoders may set it, */
    struct image_size decoded; /* and what that leaves, the last pixels maybe for fewer */
    /* what these lack, 0 to 1 of a pixel, when they have come to be the first */
    double lead_x, lead_y;
    struct turn turn;
    struct fit_plan plan;
    struct resample_plan resample; /* of what the decoder gives, as stored */
};

/* Ask `request` what is wanted of a picture of width x height, stored with this EXIF orientation.
 * Errors of the plan. */
bool geometry_plan(struct geometry *g, const struct image_size *stored, int orientation,
                   const struct fit_request *request, struct error *err) NODISCARD;

/* 2, 3, ...: how many source pixels may be joined into one on the way (RESIZE_RESERVE is left for
 * the final, good resize); 1 for none. */
int geometry_spare(const struct geometry *g);

/* Whether the plan leaves the stored picture as it is. */
bool geometry_is_whole(const struct geometry *g);

/* Gets scratch->resample ready for the rows of the decoded picture. ERROR_OVERLOADED. */
bool geometry_begin(struct geometry *g, struct image_scratch *scratch, struct error *err) NODISCARD;

/* When all rows are fed: the picture, upright and on its canvas, in the scratch until its next
 * image. ERROR_OVERLOADED. */
bool geometry_finish(const struct geometry *g, struct image_scratch *scratch, uint32_t background,
                     struct picture *ret, struct error *err) NODISCARD;
