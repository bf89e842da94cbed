/* SOURCE_URL: messages of a broker become results, as those that are pushed to /pubsub do. */
#pragma once

#include "app.h"

/* Nothing without SOURCE_URL. app->source is the caller's (amqp_consumer_free). */
bool source_start(struct app *app, struct error *err) NODISCARD;
