/* Delivery of outbox rows by HTTP push: `concurrency` dispatcher threads POST the Pub/Sub push
 * envelope (events/outbox/envelope.h) and settle the row by the answer:
 *   200, 201, 202, 204                     delivered
 *   connect failure, timeout, 5xx, 429     the endpoint's fault: the whole dispatcher backs off
 *                                          (full jitter, 100 ms doubling to 60 s, one probe at a
 *                                          time); never counts against the message
 *   anything else                          counts against the message; after max_attempts or
 *                                          max_age_s it becomes a dead letter
 * Owns its threads; the outbox is borrowed and must outlive it. */
#pragma once

#include "events/outbox/outbox.h"
#include "events/publisher.h"

struct http_client;

struct push_options {
    const char *url;            /* http://host:port/pubsub: EVENTS_URL without "push+" */
    const char *token;          /* PUSH_TOKEN, sent as Bearer; "" for none */
    struct http_client *client; /* shared: a delivery may outlast the publisher */
    int64_t concurrency;
    int64_t max_attempts;
    int64_t max_age_s;
    /* Called with what was acknowledged; quick, and not after stop(). May be NULL. */
    void (*delivered)(void *ctx, const struct outbox_row *row);
    void *delivered_ctx;
    int64_t timeout_ms;     /* of one delivery; 0: 60 s */
    int64_t max_backoff_ms; /* 0: 60 s (tests shorten it) */
};

/* The publisher of EVENTS_URL=push+…: publish() adds to the outbox, threads deliver. */
struct publisher *push_publisher_new(struct outbox *outbox, const struct push_options *options,
                                     struct error *err) NODISCARD;
