/* The consumer of SOURCE_URL=amqp(s)://…: each message of a queue is handled and then acknowledged,
 * so that the broker delivers it again when the process, the connection or the broker dies first.
 *
 * One thread owns the connection and gives deliveries to the `threads` that handle them, of which
 * as many are unacknowledged at a time. Whatever a verdict wants published is confirmed by the
 * broker before the message is acknowledged. What belongs to a connection that is gone is
 * dropped: the broker delivers it again. */
#pragma once

#include "events/amqp/link.h"

struct amqp_delivery;

/* What becomes of a message. */
struct amqp_verdict {
    enum {
        AMQP_LATER,       /* nothing: only after amqp_delivery_pause has returned false */
        AMQP_HANDLED,     /* acknowledged */
        AMQP_DEAD_LETTER, /* its copy goes to AMQP_DEAD, with the header `reason` */
        AMQP_GIVE_BACK,   /* its copy goes to the end of the queue */
    } outcome;
    char reason[256];
    char *reply; /* JSON for its reply_to, on the heap; NULL: none */
};

struct amqp_consumer_options {
    struct amqp_options broker; /* what it points to outlives the consumer */
    const char *queue;          /* of AMQP_IMAGES its length is in the metrics */
    int threads;
    /* In one of the threads. Every verdict but AMQP_LATER is final. */
    void (*handle)(void *ctx, const struct amqp_delivery *delivery,
                   const struct amqp_incoming *message, struct amqp_verdict *verdict);
    void *ctx;
};

/* ERROR_CONFIG: the URL. A broker that is away is not an error here. */
struct amqp_consumer *amqp_consumer_start(const struct amqp_consumer_options *options,
                                          struct error *err) NODISCARD;
/* Take nothing more. Returns at once. */
void amqp_consumer_leave(struct amqp_consumer *consumer);
/* The same, then finish what is being handled, acknowledge it, close the connection. */
void amqp_consumer_stop(struct amqp_consumer *consumer, int64_t deadline_ms);
/* What is being handled still ends before it returns. NULL is fine. */
void amqp_consumer_free(struct amqp_consumer *consumer);

/* Wait before another attempt. False: give up with AMQP_LATER, since the consumer stops or the
 * message is delivered again. */
bool amqp_delivery_pause(const struct amqp_delivery *delivery, int64_t ms) NODISCARD;
