/* What a request's work is made of, and how long each part took: for the metric
 * stage_duration_seconds and for the reply's Server-Timing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum stage {
    STAGE_RECEIVE,
    STAGE_QUEUE,
    STAGE_DECODE,
    STAGE_TRANSFORM,
    STAGE_ENCODE,
    STAGE_STORE,
    STAGE_PUBLISH,
    STAGE_FETCH,
    STAGE_INFER,
    STAGES,
};

/* Of one request; all zero at first. Written by one thread at a time: the connection's, or the
 * worker's that it waits for. */
struct stages {
    double seconds[STAGES];
    bool seen[STAGES];
};

/* Count it, and note it in `stages`, which may be NULL. What a request does twice adds up. */
void stage_took(struct stages *stages, enum stage stage, double seconds);

/* As long as a header's value may be (http/reply.h). */
enum { STAGES_TEXT_MAX = 192 };
/* The value of Server-Timing (W3C Server Timing, milliseconds): "receive;dur=0.4, queue;dur=0.0",
 * in the order above; "" when no stage was seen. What does not fit is left out. */
void stages_text(const struct stages *stages, char out[STAGES_TEXT_MAX]);
