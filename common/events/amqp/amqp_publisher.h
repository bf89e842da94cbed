/* The publisher of EVENTS_URL=amqp(s)://…: the same event as Pub/Sub's, a persistent message to
 * exchange darkroom.images, of which the broker has confirmed that it is on the disk of a quorum.
 *
 * One thread owns one connection. It sends what waits without waiting for confirms, and wakes each
 * caller by the confirm of its message. When the connection is lost, what was not confirmed is sent
 * again on the next one, with the same message id: receivers may see it twice. A caller waits for a
 * connection, or for the end of the broker's alarm, for AMQP_AWAY_MS at most. */
#pragma once

#include "events/amqp/link.h"
#include "events/publisher.h"

enum { AMQP_AWAY_MS = 3000 };

/* The options are borrowed. ERROR_CONFIG: the URL. A broker that is away is not an error here. */
struct publisher *amqp_publisher_new(const struct amqp_options *options,
                                     struct error *err) NODISCARD;
