/* A notification as whoever sent it sees it, by HTTP or by a broker. */
#pragma once

#include "settle.h"

/* Settle every event, even when one fails: the sender repeats all of them, and finished ones are
 * cheap to repeat. A new reference: the report of the first of the worst outcome, which is
 * {"status": "ok", "label", "confidence"}, {"status": "ignored"} or {"status": "rejected",
 * "detail"}. NULL: one may succeed when it is repeated; *err says why it has not. */
json_t *settle_all(const struct app *app, const struct context *ctx,
                   const struct notification *notification, struct error *err) NODISCARD;
