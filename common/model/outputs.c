#include "model/outputs.h"

#include <math.h>
#include <string.h>

void labels_pick(const struct manifest *manifest, const float *scores, size_t k, struct labels *ret)
{
    size_t n = manifest->label_count;

    ret->count = 0;
    k = k < n ? k : n;
    for (size_t i = 0; i < n; i++) {
        size_t at = ret->count;
        if (at == k && scores[i] <= ret->top[at - 1].confidence)
            continue;
        if (at < k)
            ret->count++;
        else
            at--;
        for (; at > 0 && ret->top[at - 1].confidence < scores[i]; at--)
            ret->top[at] = ret->top[at - 1];
        ret->top[at] = (struct label){.index = i, .confidence = scores[i]};
    }
}

static json_t *name_of(const struct manifest *manifest, size_t index)
{
    const char *line = manifest->labels[index];

    return json_stringn(line, strcspn(line, ","));
}

/* Probabilities to 6 decimals: what a float of this size means, and stable text. */
static json_t *confidence_of(float value)
{
    return json_real(rint((double)value * 1e6) / 1e6);
}

json_t *labels_to_json(const struct manifest *manifest, const struct labels *labels)
{
    json_t *top = json_array();

    for (size_t i = 0; i < labels->count; i++) {
        const struct label *l = &labels->top[i];
        if (json_array_append_new(top,
                                  json_pack("{s:o, s:o, s:I}", "label", name_of(manifest, l->index),
                                            "confidence", confidence_of(l->confidence), "index",
                                            (json_int_t)l->index)) != 0) {
            json_decref(top);
            return NULL;
        }
    }
    return json_pack("{s:o, s:o, s:o, s:s}", "label", name_of(manifest, labels->top[0].index),
                     "confidence", confidence_of(labels->top[0].confidence), "top", top, "model",
                     manifest->name);
}

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
