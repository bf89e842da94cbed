/* The use case of POST /pubsub, and of what a broker brings: objects were announced. Fetch each,
 * label it, store the result and announce that. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "events/notification/notification.h"

#include <jansson.h>

/* Settle every event, even when one fails: the sender repeats all of them, and finished ones are
 * cheap to repeat. A new reference: the report of the first of the worst outcome, which is
 * {"status": "ok", "label", "confidence"}, {"status": "ignored"} or {"status": "rejected",
 * "detail"}. NULL: one may succeed when it is repeated; *err says why it has not. */
json_t *settle_all(const struct app *app, const struct context *ctx,
                   const struct notification *notification, struct error *err) NODISCARD;
