/* A turn by any angle: for every pixel of the canvas, where it comes from, in fixed point, and the
 * four pixels around that place by their shares. Pixels beside the picture are the background, so
 * that its edge is soft. */
#include "image/ops/rotate.h"

#include <math.h>
#include <string.h>

enum { FRACTION = 32, SHARE_BITS = 8, BANDS_MAX = 4 };

static double radians(int degrees)
{
    return degrees * M_PI / 180;
}

struct image_size rotate_any_size(int degrees, struct image_size in)
{
    const double c = fabs(cos(radians(degrees))), s = fabs(sin(radians(degrees)));
    const double rounding = 1e-6; /* of the sums: no pixel for that */

    return (struct image_size){(int)ceil(in.width * c + in.height * s - rounding),
                               (int)ceil(in.width * s + in.height * c - rounding)};
}

/* The background as a pixel: RGB, RGB and transparent, or its brightness (ITU-R BT.601). */
static void background_pixel(const struct operation_run *run, uint8_t pixel[BANDS_MAX])
{
    const uint32_t r = run->background >> 16 & 0xff, g = run->background >> 8 & 0xff,
                   b = run->background & 0xff;

    memset(pixel, 0, BANDS_MAX);
    if (run->bands < 3) {
        pixel[0] = (uint8_t)((299 * r + 587 * g + 114 * b + 500) / 1000);
        return;
    }
    pixel[0] = (uint8_t)r;
    pixel[1] = (uint8_t)g;
    pixel[2] = (uint8_t)b;
}

static const uint8_t *pixel_at(const struct operation_run *run, int64_t x, int64_t y,
                               const uint8_t *beside)
{
    if (x < 0 || x >= run->size.width || y < 0 || y >= run->size.height)
        return beside;
    return run->in + ((size_t)y * (size_t)run->size.width + (size_t)x) * (size_t)run->bands;
}

/* x, y: with FRACTION bits behind the point; pixels are at whole numbers. */
static void sample(const struct operation_run *run, int64_t x, int64_t y, const uint8_t *beside,
                   uint8_t *to)
{
    const int64_t left = x >> FRACTION, top = y >> FRACTION;
    const uint32_t one = 1 << SHARE_BITS;
    const uint32_t right = (uint32_t)(x >> (FRACTION - SHARE_BITS)) & (one - 1);
    const uint32_t lower = (uint32_t)(y >> (FRACTION - SHARE_BITS)) & (one - 1);

    if (left < -1 || left >= run->size.width || top < -1 || top >= run->size.height) {
        memcpy(to, beside, (size_t)run->bands);
        return;
    }
    const uint8_t *a = pixel_at(run, left, top, beside), *b = pixel_at(run, left + 1, top, beside),
                  *c = pixel_at(run, left, top + 1, beside),
                  *d = pixel_at(run, left + 1, top + 1, beside);
    for (int i = 0; i < run->bands; i++) {
        uint32_t above = a[i] * (one - right) + b[i] * right;
        uint32_t below = c[i] * (one - right) + d[i] * right;

        to[i] =
            (uint8_t)((above * (one - lower) + below * lower + one * one / 2) >> (2 * SHARE_BITS));
    }
}

bool rotate_any(const struct operation_run *run, struct error *err)
{
    const double unit = (double)((int64_t)1 << FRACTION);
    const double c = cos(radians(run->value)), s = sin(radians(run->value));
    const int64_t step_x = llround(c * unit), step_y = llround(-s * unit);
    uint8_t beside[BANDS_MAX];
    uint8_t *to = run->out + (size_t)run->top * (size_t)run->out_size.width * (size_t)run->bands;

    background_pixel(run, beside);
    for (int y = run->top; y < run->bottom; y++) {
        /* around the centres of both pictures, which stay where they are */
        const double dx = 0.5 - run->out_size.width / 2.0,
                     dy = y + 0.5 - run->out_size.height / 2.0;
        int64_t from_x = llround((c * dx + s * dy + run->size.width / 2.0 - 0.5) * unit);
        int64_t from_y = llround((-s * dx + c * dy + run->size.height / 2.0 - 0.5) * unit);

        if (y % OPERATION_ROWS == 0 && !image_cancelled_check(run->cancelled, err))
            return false;
        for (int x = 0; x < run->out_size.width; x++, to += run->bands) {
            sample(run, from_x, from_y, beside, to);
            from_x += step_x;
            from_y += step_y;
        }
    }
    return true;
}
