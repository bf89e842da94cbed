/* Events about objects, as a list: what every format of notification.h is read into. */
#pragma once

#include "base/error.h"

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
