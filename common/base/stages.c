#include "base/stages.h"

#include "base/metrics.h"

#include <stdio.h>

static const char *const names[] = {
    [STAGE_RECEIVE] = "receive",     [STAGE_QUEUE] = "queue",   [STAGE_DECODE] = "decode",
    [STAGE_TRANSFORM] = "transform", [STAGE_ENCODE] = "encode", [STAGE_STORE] = "store",
    [STAGE_PUBLISH] = "publish",     [STAGE_FETCH] = "fetch",   [STAGE_INFER] = "infer",
};

void stage_took(struct stages *stages, enum stage stage, double seconds)
{
    char labels[METRIC_LABELS_MAX];

    snprintf(labels, sizeof(labels), "stage=\"%s\"", names[stage]);
    metric_observe(METRIC_STAGE_DURATION, labels, seconds);
    if (stages == NULL)
        return;
    stages->seconds[stage] += seconds;
    stages->seen[stage] = true;
}

void stages_text(const struct stages *stages, char out[STAGES_TEXT_MAX])
{
    size_t len = 0;

    *out = '\0';
    for (int i = 0; i < STAGES; i++) {
        char one[48];

        if (!stages->seen[i])
            continue;
        int n = snprintf(one, sizeof(one), "%s%s;dur=%.1f", len > 0 ? ", " : "", names[i],
                         1e3 * stages->seconds[i]);
        if (n > 0 && len + (size_t)n < STAGES_TEXT_MAX)
            len += (size_t)snprintf(out + len, STAGES_TEXT_MAX - len, "%s", one);
    }
}
