/* One connection to a broker with one channel in confirm mode, over librabbitmq: AMQP 0-9-1 with
 * RabbitMQ's extensions (rabbitmq.com/confirms.html, rabbitmq.com/quorum-queues.html).
 *
 * A link belongs to one thread; only amqp_link_break is another's to call. Each error is
 * ERROR_UNAVAILABLE and ends the link: close it, open another. Nothing here waits for longer than
 * AMQP_CALL_MS, except for a socket that takes no bytes: there the kernel gives up after two
 * heartbeats. */
#pragma once

#include "base/bytes.h"

#include <jansson.h>
#include <stdint.h>

#define AMQP_IMAGES "darkroom.images" /* exchange, its key, and the quorum queue behind it */
#define AMQP_DEAD "darkroom.dead"     /* quorum queue of dead letters */
#define AMQP_OLDER "resnetQ"          /* the older classifier's queue */

enum {
    AMQP_CALL_MS = 3000,
    AMQP_DELIVERY_LIMIT = 20, /* deliveries whose consumers died, before the broker gives up */
    AMQP_TEXT_MAX = 255,      /* a short string of the protocol */
    AMQP_BODY_MAX = 1024 * 1024,
};

struct amqp_options {
    const char *url;     /* amqp(s)://…; borrowed for as long as what is made from them */
    const char *ca_file; /* "" for the system's */
    bool older;          /* declare the older classifier's exchange and queue, too */
};

/* A message out. NULL is "not there". Borrowed for the call. */
struct amqp_outgoing {
    const char *exchange, *key;
    bool mandatory; /* comes back when it reaches no queue */
    bool persistent;
    const char *content_type, *message_id, *correlation_id, *reply_to;
    struct amqp_header {
        const char *name, *value; /* "" is left out */
    } headers[6];                 /* to the first without a name */
    json_t *copied;               /* further headers: texts by name */
    struct bytes body;
};

/* What came in. Texts are "" when they are not there. */
struct amqp_incoming {
    enum {
        AMQP_NOTHING,
        AMQP_ACK,      /* of `tag`, or all up to it */
        AMQP_NACK,     /* the same, refused */
        AMQP_RETURN,   /* a mandatory message that reached no queue; its ack follows */
        AMQP_DELIVERY, /* with a body */
        AMQP_CANCEL,   /* the queue is gone: nothing more is delivered */
    } kind;
    uint64_t tag;
    bool multiple, redelivered;
    char message_id[AMQP_TEXT_MAX + 1], correlation_id[AMQP_TEXT_MAX + 1];
    char reply_to[AMQP_TEXT_MAX + 1], content_type[AMQP_TEXT_MAX + 1];
    json_t *headers; /* those that are texts; NULL: none */
    struct buffer body;
    bool too_large; /* the body was left out */
};

struct amqp_link;

/* Connect, sign in, declare exchange and queues. The error says what the operator has to mend. */
struct amqp_link *amqp_link_open(const struct amqp_options *options, struct error *err) NODISCARD;
/* Orderly: what was sent is the broker's before it returns. NULL is fine. */
void amqp_link_close(struct amqp_link *link, bool orderly);
/* From any thread, while the link is open: what it waits for fails. */
void amqp_link_break(struct amqp_link *link);
int amqp_link_fd(const struct amqp_link *link);
/* Why the broker reads nothing more, as it said at the last amqp_link_receive: it is short of
 * memory or disk. Nothing is answered until it reads again. NULL: it reads. */
const char *amqp_link_blocked(const struct amqp_link *link);

/* The broker confirms messages by their number on this link, from 1. */
bool amqp_link_publish(struct amqp_link *link, const struct amqp_outgoing *message,
                       struct error *err) NODISCARD;
/* What is there, without waiting: AMQP_NOTHING when nothing is. Sends heartbeats when due: call it
 * at least every second. *ret is the caller's (amqp_incoming_done). */
bool amqp_link_receive(struct amqp_link *link, struct amqp_incoming *ret,
                       struct error *err) NODISCARD;
void amqp_incoming_done(struct amqp_incoming *incoming);

/* Deliveries of a queue, at most `prefetch` of them unacknowledged. */
bool amqp_link_consume(struct amqp_link *link, const char *queue, int prefetch,
                       struct error *err) NODISCARD;
/* No more deliveries; some may be on their way. */
bool amqp_link_cancel(struct amqp_link *link, struct error *err) NODISCARD;
bool amqp_link_acknowledge(struct amqp_link *link, uint64_t tag, struct error *err) NODISCARD;
/* For good: the broker makes it a dead letter. */
bool amqp_link_reject(struct amqp_link *link, uint64_t tag, struct error *err) NODISCARD;
/* Messages that wait in a queue. */
bool amqp_link_count(struct amqp_link *link, const char *queue, uint32_t *ret,
                     struct error *err) NODISCARD;
