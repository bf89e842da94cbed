/* Publishing to a Google Cloud Pub/Sub topic by its REST API.
 * Source of the format: Google Cloud Pub/Sub reference, projects.topics.publish:
 *   POST /v1/projects/P/topics/T:publish  {"messages":[{"data":"<base64>","attributes":{}}]}
 *   -> {"messageIds":["…"]}
 *
 * A call returns when its message is Pub/Sub's, or is not: nothing is left to do in the background,
 * where a Cloud Run instance has no CPU. Whoever comes while CALLS_MAX calls are in progress waits,
 * and the first of those who wait then sends for all of them in one call; a lone message is sent
 * at once. Passing faults (no connection, no answer within attempt_ms, 408, 409, 429, 499, 5xx) are
 * tried again after a jittered pause, each message by its own deadline and for at most 6 attempts;
 * a 401 once with a new token. A message of which the answer was lost is sent again: receivers see
 * it twice, with the same attributes.
 *
 * Thread-safe. */
#pragma once

#include "base/bytes.h"
#include "events/publisher.h"
#include "events/pubsub/pubsub_options.h"

enum {
    PUBSUB_MESSAGE_MAX = 128 * 1024, /* as JSON */
    PUBSUB_ATTRIBUTES_MAX = 8,
};

struct pubsub_attribute {
    const char *name;
    const char *value; /* one that is "" is left out */
};

struct pubsub_message {
    struct bytes data;
    struct pubsub_attribute attributes[PUBSUB_ATTRIBUTES_MAX]; /* to the first without a name */
};

struct pubsub;

struct pubsub *pubsub_new(const struct pubsub_options *options, struct error *err) NODISCARD;
/* True when Pub/Sub has confirmed the message; message_id is then its id there. Otherwise
 * ERROR_UNAVAILABLE (with what the operator has to mend, if it is that), ERROR_DEADLINE,
 * ERROR_OVERLOADED (no memory) or ERROR_SHUTTING_DOWN. */
bool pubsub_publish(struct pubsub *pubsub, const struct pubsub_message *message,
                    int64_t deadline_ms, char message_id[MESSAGE_ID_MAX],
                    struct error *err) NODISCARD;
/* Refuse further messages and wait for those in progress; what is not done at the deadline fails.
 */
void pubsub_stop(struct pubsub *pubsub, int64_t deadline_ms);
/* When no call is in progress any more. NULL is fine. */
void pubsub_free(struct pubsub *pubsub);

/* The publisher of EVENTS_URL=pubsub://… */
struct publisher *pubsub_publisher_new(const struct pubsub_options *options,
                                       struct error *err) NODISCARD;
