#include "model/mask.h"

#include <math.h>

/* Usually the largest number becomes 1 and the smallest 0, as U^2-Net's authors do it. A picture
 * that shows nothing has a small largest number: divided by that, anything would be foreground. */
static const float LARGEST_MIN = 0.5F;

/* What is below or above is all background or all foreground: without this a haze surrounds the
 * subject, and the subject is never quite opaque. Chosen by eye on the shared photographs. */
static const float LOW = 0.2F, HIGH = 0.8F;

void mask_from_map(const float *map, size_t count, uint8_t *mask)
{
    float least = map[0], most = map[0];

    for (size_t i = 1; i < count; i++) {
        least = fminf(least, map[i]); /* either of two, if one is no number */
        most = fmaxf(most, map[i]);
    }
    float scale = 1 / (fmaxf(most - least, LARGEST_MIN) * (HIGH - LOW));
    for (size_t i = 0; i < count; i++) {
        float alpha = (map[i] - least) * scale - LOW / (HIGH - LOW);

        mask[i] = (uint8_t)lrintf(fminf(fmaxf(alpha, 0), 1) * UINT8_MAX);
    }
}
