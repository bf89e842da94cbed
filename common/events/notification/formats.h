/* What a notification is read into, whichever format it has; the readers of the formats, which
 * append to *ret, and what they share. */
#pragma once

#include "base/json.h"
#include "http/request.h"

enum {
    NOTIFICATION_BYTES_MAX = 1024 * 1024,
    NOTIFICATION_RECORDS_MAX = 100,
    /* json_cost of one piece of JSON: a hundred records take a fifth of it, one long string all. */
    NOTIFICATION_COST_MAX = 4 * NOTIFICATION_BYTES_MAX + 65536,
};

/* One event. Heap strings, none of them NULL save `uri`. */
struct announcement {
    char *uri;    /* of the object that was created; NULL when the event says something else */
    char *source; /* source and id: the same for every delivery of the event; "" when unknown */
    char *id;
    char *origin;      /* our attribute, or "" */
    char *traceparent; /* our attribute, or "" */
    const char *flaw;  /* why it can never be handled; static, or NULL */
};

struct notification {
    struct announcement *events; /* in the sender's order */
    size_t count;                /* at least 1 */
};

void notification_done(struct notification *notification);

/* The fields of an announcement, borrowed; NULL is "" except for `uri` and `flaw`. */
struct announced {
    const char *uri, *source, *id, *origin, *traceparent, *flaw;
};

/* Append an event. ERROR_BAD_REQUEST when its text is not UTF-8 (headers may be anything). */
bool notification_add(struct notification *notification, const struct announced *event,
                      struct error *err) NODISCARD;

/* A JSON object, a new reference. NULL: ERROR_BAD_REQUEST says what `what` is not, ERROR_TOO_LARGE
 * when parsing would take too much memory. */
json_t *notification_parse(struct bytes text, const char *what, struct error *err) NODISCARD;

/* The text of a member: "" when it is absent. ERROR_BAD_REQUEST when it is not a string. */
bool notification_text(const json_t *object, const char *name, const char **ret,
                       struct error *err) NODISCARD;

/* The bucket and name in the resource of a Cloud Storage object. False when one is missing. */
bool notification_resource(const json_t *resource, const char **bucket, const char **name);

/* CloudEvents 1.0, binary and structured. */
bool cloudevent_is_structured(const struct request *req);
bool cloudevent_is_binary(const struct request *req);
/* Both modes. */
bool cloudevent_read(const struct request *req, struct notification *ret,
                     struct error *err) NODISCARD;

/* Pub/Sub: a wrapped push. `event` gives source and id when it came in a CloudEvent, else it is
 * NULL. */
bool pubsub_push_read(const json_t *envelope, const struct announced *event,
                      struct notification *ret, struct error *err) NODISCARD;
/* Pub/Sub: one message whose data is plain: what brokers carry. `from` gives source and id. */
bool pubsub_plain_read(struct bytes data, const json_t *attributes, const struct announced *from,
                       struct notification *ret, struct error *err) NODISCARD;
bool pubsub_is_unwrapped(const struct request *req);
bool pubsub_unwrapped_read(const struct request *req, struct notification *ret,
                           struct error *err) NODISCARD;

/* S3 event notifications. */
bool s3_notification_is(const json_t *body);
bool s3_notification_read(const json_t *body, struct notification *ret,
                          struct error *err) NODISCARD;
