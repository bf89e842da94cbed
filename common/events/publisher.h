/* Where events go: an interface with one implementation per EVENTS_URL scheme (outbox + push;
 * none; Pub/Sub; RabbitMQ). */
#pragma once

#include "base/strings.h"

/* What is announced: an object was stored. On every wire it has the data of event_data, and the
 * attributes origin (EVENT_ORIGIN), event_id, content_type and, if there is one, traceparent. */
#define EVENT_ORIGIN "preprocess-service"
enum { EVENT_TRACEPARENT_MAX = 56, MESSAGE_ID_MAX = 128 };

struct event {
    const char *gcs_path;     /* object URI, with the id in it */
    const char *id;           /* content id, 64 hex digits */
    const char *content_type; /* of the object */
    const char *traceparent;  /* W3C Trace Context, or "" */
    /* What the outbox keeps in the same commit, until it is told to forget it (outbox_forget), or
     * NULL; then *record_seq is where. Other publishers leave both alone. */
    const char *record;
    int64_t *record_seq;
};

/* {"gcs_path": uri, "id": id}, appended to out. ERROR_BAD_REQUEST: not UTF-8; ERROR_TOO_LARGE. */
bool event_data(const char *gcs_path, const char *id, struct buffer *out,
                struct error *err) NODISCARD;

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
