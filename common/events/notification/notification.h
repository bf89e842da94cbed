/* What senders tell POST /pubsub: which objects were created. One entry point for all formats:
 *   Pub/Sub pushes, wrapped (a `message` object) and unwrapped (x-goog-pubsub-* headers), whose
 *     message is ours ({"gcs_path": uri}) or Cloud Storage's (attributes eventType, bucketId,
 *     objectId; the object's resource as data);
 *   CloudEvents 1.0, binary (ce-* headers) and structured, of the types
 *     google.cloud.pubsub.topic.v1.messagePublished and google.cloud.storage.object.v1.finalized;
 *   S3 event notifications, as AWS and MinIO's webhook send them.
 * Pure functions: no I/O. */
#ifndef DARKROOM_EVENTS_NOTIFICATION_NOTIFICATION_H
#define DARKROOM_EVENTS_NOTIFICATION_NOTIFICATION_H

#include "base/bytes.h"

enum {
    NOTIFICATION_BYTES_MAX = 1024 * 1024,
    NOTIFICATION_RECORDS_MAX = 100,
    /* json_cost of one piece of JSON: a hundred records take a fifth of it, one long string all. */
    NOTIFICATION_COST_MAX = 4 * NOTIFICATION_BYTES_MAX + 65536,
};

struct notification_request {
    struct bytes body;
    /* The value of a header (name case-insensitive), or NULL. */
    const char *(*header)(const void *ctx, const char *name);
    const void *ctx;
};

/* One event. Heap strings, none of them NULL save `uri`. */
struct announcement {
    char *uri;    /* of the object that was created; NULL when the event says something else */
    char *source; /* source and id: the same for every delivery of the event; "" when unknown */
    char *id;
    char *origin;      /* our attribute, or "" */
    char *traceparent; /* our attribute, or "" */
};

struct notification {
    struct announcement *events; /* in the sender's order */
    size_t count;                /* at least 1 */
};

/* Read a request. ERROR_BAD_REQUEST when it is none of these, malformed, or has more than
 * NOTIFICATION_RECORDS_MAX records; ERROR_UNSUPPORTED_MEDIA for CloudEvents that are batched or not
 * JSON; ERROR_TOO_LARGE over NOTIFICATION_BYTES_MAX, or too many JSON values. On failure *ret is
 * untouched. */
bool notification_read(const struct notification_request *req, struct notification *ret,
                       struct error *err) NODISCARD;
void notification_done(struct notification *notification);

#endif
