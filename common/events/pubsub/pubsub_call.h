/* One :publish call and what its answer means. Only for events/pubsub*.c. */
#pragma once

#include "base/bytes.h"
#include "events/publisher.h"
#include "events/pubsub/pubsub_options.h"

enum { PUBSUB_BATCH_MAX = 100 };

enum pubsub_verdict {
    PUBSUB_DONE,
    PUBSUB_FAILED,
    PUBSUB_AGAIN,     /* later */
    PUBSUB_NEW_TOKEN, /* at once: the token was refused, and is forgotten */
    PUBSUB_ALONE,     /* at once: one of these messages was refused, nobody knows which */
};

struct pubsub_call {
    struct bytes body;
    size_t count; /* of messages in it, at most PUBSUB_BATCH_MAX */
    int64_t deadline_ms;
    char ids[PUBSUB_BATCH_MAX][MESSAGE_ID_MAX]; /* of the messages, in order, when it is done */
};

/* The URL of a topic's :publish; the caller frees. NULL: too long a topic. */
char *pubsub_url(const struct pubsub_options *options, struct error *err) NODISCARD;

/* Unless it is PUBSUB_DONE, *err says why: ERROR_UNAVAILABLE, ERROR_DEADLINE, ERROR_OVERLOADED. */
enum pubsub_verdict pubsub_call(const struct pubsub_options *options, const char *url,
                                struct pubsub_call *call, struct error *err) NODISCARD;
