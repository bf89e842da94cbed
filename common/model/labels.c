#include "model/labels.h"

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
