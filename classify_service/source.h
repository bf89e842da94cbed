/* SOURCE_URL: messages of a broker become results, as those that are pushed to /pubsub do. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "events/amqp/amqp_consumer.h"

#include <jansson.h>

/* Nothing without SOURCE_URL. What app has of it is the caller's (source_stop, source_done). */
bool source_start(struct app *app, struct error *err) NODISCARD;
/* Take no more messages; source_stop waits until those that there are have ended. */
void source_leave(struct app *app);
void source_stop(struct app *app, int64_t deadline_ms);
void source_done(struct app *app);

/* One attempt at a message: what is reported to its sender, a new reference, with a "detail" if it
 * can never succeed. NULL: *err is a passing error or a defect. */
typedef json_t *(*source_attempt)(struct app *app, const struct context *ctx, const void *message,
                                  struct error *err);

/* Attempt until it is settled, or others have their turn. */
void source_handle(struct app *app, const struct amqp_delivery *delivery,
                   const struct amqp_incoming *incoming, source_attempt attempt,
                   const void *message, struct amqp_verdict *verdict);
/* It can never succeed. Why, the dead letter says in full, and the reply as one by HTTP does. */
void source_refuse(const struct amqp_incoming *incoming, const struct error *why,
                   struct amqp_verdict *verdict);

/* AMQP_OLD_QUEUE: a handler of the older classifier's messages; ctx is the app. */
void older_queue_handle(void *ctx, const struct amqp_delivery *delivery,
                        const struct amqp_incoming *incoming, struct amqp_verdict *verdict);
