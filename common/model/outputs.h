/* What the numbers of a model's output say: the best labels of a classification, and their JSON; or
 * what of a picture is foreground. */
#pragma once

#include "model/manifest.h"

#include <jansson.h>

enum { TOP_K_MAX = 100, TOP_K_DEFAULT = 5 };

struct labels {
    size_t count; /* at least 1 */
    struct label {
        size_t index; /* of the class, from 0 */
        float confidence;
    } top[TOP_K_MAX]; /* best first; equal ones by index */
};

/* The k best of `scores`, which has one for each label. */
void labels_pick(const struct manifest *manifest, const float *scores, size_t k,
                 struct labels *ret);

/* {"label", "confidence", "top": [{"label", "confidence", "index"}], "model"}; NULL when out of
 * memory. `label` is the first of the names on a label's line. */
json_t *labels_to_json(const struct manifest *manifest, const struct labels *labels);

/* From a model's map, one number per pixel that says how much it is foreground, to alpha: `count`
 * numbers, at least one, to as many bytes, 0 background, 255 foreground. */
void mask_from_map(const float *map, size_t count, uint8_t *mask);
