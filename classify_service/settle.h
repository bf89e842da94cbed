/* The use case of POST /pubsub: an object was announced. Fetch it, label it, store the result and
 * announce that. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "events/notification/notification.h"

#include <jansson.h>

struct settlement {
    /* In the order of their weight. RETRY: it may succeed when the sender repeats it. */
    enum outcome { IGNORED, SETTLED, RETRY } outcome;
    json_t *result;   /* SETTLED: as it is stored, if it is */
    struct error why; /* RETRY, or SETTLED without a result */
};

void settle(const struct app *app, const struct context *ctx, const struct announcement *event,
            struct settlement *ret);
/* Why the object was rejected for good; NULL when it was not. */
const char *settlement_rejection(const struct settlement *settlement);
void settlement_done(struct settlement *settlement);
