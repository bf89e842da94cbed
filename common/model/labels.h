/* What a classification says: the best labels, and their JSON. */
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
