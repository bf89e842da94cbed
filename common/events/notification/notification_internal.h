/* What the readers of notification.h's formats share. */
#ifndef DARKROOM_EVENTS_NOTIFICATION_NOTIFICATION_INTERNAL_H
#define DARKROOM_EVENTS_NOTIFICATION_NOTIFICATION_INTERNAL_H

#include "events/notification/notification.h"

#include <jansson.h>

static inline void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define CLEANUP_JSON CLEANUP(cleanup_json)

/* A JSON object, a new reference. NULL: ERROR_BAD_REQUEST says what `what` is not, ERROR_TOO_LARGE
 * when parsing would take too much memory. */
json_t *notification_parse(struct bytes text, const char *what, struct error *err) NODISCARD;

/* The text of a member: "" when it is absent. ERROR_BAD_REQUEST when it is no string. */
bool notification_text(const json_t *object, const char *name, const char **ret,
                       struct error *err) NODISCARD;

/* The first fields of an announcement, borrowed; NULL is "" except for `uri`. */
struct announced {
    const char *uri, *source, *id, *origin, *traceparent;
};

/* Append an event. ERROR_BAD_REQUEST when its text is not UTF-8 (headers may be anything). */
bool notification_add(struct notification *notification, const struct announced *event,
                      struct error *err) NODISCARD;

/* "gs://bucket/name" of a Cloud Storage object's resource, on the heap, in *ret, which stays NULL
 * when `resource` is none. False only when out of memory. */
bool notification_gcs_uri(const json_t *resource, char **ret, struct error *err) NODISCARD;

/* ---- the formats; each appends to *ret */

/* A wrapped push. `event` gives source and id when it came in a CloudEvent, else it is NULL. */
bool pubsub_push_read(const json_t *envelope, const struct announced *event,
                      struct notification *ret, struct error *err) NODISCARD;
bool pubsub_is_unwrapped(const struct notification_request *req);
bool pubsub_unwrapped_read(const struct notification_request *req, struct notification *ret,
                           struct error *err) NODISCARD;

bool cloudevent_is_structured(const struct notification_request *req);
bool cloudevent_is_binary(const struct notification_request *req);
/* Both modes. */
bool cloudevent_read(const struct notification_request *req, struct notification *ret,
                     struct error *err) NODISCARD;

bool s3_notification_is(const json_t *body);
bool s3_notification_read(const json_t *body, struct notification *ret,
                          struct error *err) NODISCARD;

#endif
