/* Where events go: an interface with one implementation per EVENTS_URL scheme (outbox + push;
 * none; Pub/Sub later). */
#pragma once

#include "events/event.h"

enum { MESSAGE_ID_MAX = 128 };

struct publisher {
    /* True when the event is durable; message_id then holds its id ("" if there is none).
     * Otherwise ERROR_OVERLOADED (too many pending), ERROR_DEADLINE or ERROR_UNAVAILABLE. */
    bool (*publish)(struct publisher *self, const struct event *event, int64_t deadline_ms,
                    char message_id[MESSAGE_ID_MAX], struct error *err);
    /* Stop delivering; returns when nothing is in progress, at the latest at the deadline. */
    void (*stop)(struct publisher *self, int64_t deadline_ms);
    void (*free)(struct publisher *self);
};

/* `none:`: events are dropped, message ids are empty. */
struct publisher *publisher_none_new(void) NODISCARD;
