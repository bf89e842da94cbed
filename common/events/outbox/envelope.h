/* The Pub/Sub push envelope (wrapped), written; events/notification/notification.h reads it.
 * Source of the format: Google Cloud Pub/Sub documentation, "Push subscriptions", wrapped messages:
 *   {"message":{"data":"<base64>","attributes":{},"messageId":"","message_id":"","publishTime":"",
 *    "publish_time":""},"subscription":"projects/P/subscriptions/S"}
 * Data and attributes are in events/publisher.h. Pure functions. */
#pragma once

#include "base/bytes.h"
#include "events/outbox/row.h"

enum { ENVELOPE_MAX = 65536 };

/* The envelope for a row, appended to out, with deliveryAttempt if there were refusals before.
 * ERROR_BAD_REQUEST for a row that is not UTF-8: it can never be sent. */
bool envelope_write(const struct outbox_row *row, struct buffer *out, struct error *err) NODISCARD;
