/* What the threads that own a link share: connecting again with back-off, which logs only what
 * changed, and waiting for the broker or for another thread. */
#pragma once

#include "events/amqp/link.h"

enum { AMQP_LOOK_MS = 500 }; /* heartbeats are due */

/* Zeroed at first. */
struct amqp_reconnect {
    bool failing;
    int64_t backoff_ms;
    int64_t opened_ms; /* when it was connected; 0: it is not */
};

struct amqp_link *amqp_reconnect_open(struct amqp_reconnect *r, const struct amqp_options *options,
                                      struct error *err) NODISCARD;
/* There is no connection, because of `why`: how long to wait before the next attempt. */
int64_t amqp_reconnect_pause_ms(struct amqp_reconnect *r, const struct error *why);

/* Until there is something to read from `link` (NULL: nothing), `wake` (an eventfd) has been
 * written, or the time is over. */
void amqp_wait(const struct amqp_link *link, int wake, int64_t timeout_ms);
void amqp_wake(int wake);
