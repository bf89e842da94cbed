/* What is announced: an object was stored. The wire form is in events/outbox/envelope.h. */
#pragma once

#include "base/strings.h"

enum { EVENT_TRACEPARENT_MAX = 56 };

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
