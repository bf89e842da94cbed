/* The Pub/Sub push envelope (wrapped), written and read.
 * Source of the format: Google Cloud Pub/Sub documentation, "Push subscriptions", wrapped messages:
 *   {"message":{"data":"<base64>","attributes":{},"messageId":"","message_id":"","publishTime":"",
 *    "publish_time":""},"subscription":"projects/P/subscriptions/S"}
 * Our data is {"gcs_path": uri, "id": id}; attributes origin, event_id, content_type, traceparent.
 * Pure functions. */
#ifndef DARKROOM_EVENTS_ENVELOPE_H
#define DARKROOM_EVENTS_ENVELOPE_H

#include "events/outbox.h"

enum { ENVELOPE_MAX = 65536 };

/* The envelope for a row, appended to out, with deliveryAttempt if there were refusals before.
 * ERROR_BAD_REQUEST for a row that is not UTF-8: it can never be sent. */
bool envelope_write(const struct outbox_row *row, struct buffer *out, struct error *err) NODISCARD;

/* What a receiver needs of an envelope. Strings are heap; envelope_done. */
struct envelope {
    char *gcs_path;    /* from the data's JSON */
    char *message_id;  /* never NULL */
    char *source;      /* the subscription, or "" */
    char *origin;      /* attribute, or "" */
    char *traceparent; /* attribute, or "" */
};

/* Read a wrapped push. Accepts both spellings of the ids, unknown fields, absent attributes.
 * ERROR_BAD_REQUEST when it is no envelope, or its data is not JSON with a string gcs_path;
 * ERROR_TOO_LARGE over ENVELOPE_MAX. */
bool envelope_read(struct bytes body, struct envelope *ret, struct error *err) NODISCARD;
void envelope_done(struct envelope *envelope);

#endif
