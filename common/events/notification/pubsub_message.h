/* Pub/Sub pushes, wrapped and unwrapped. Appends to *ret. */
#pragma once

#include "events/notification/announcement.h"
#include "http/request.h"

#include <jansson.h>

/* A wrapped push. `event` gives source and id when it came in a CloudEvent, else it is NULL. */
bool pubsub_push_read(const json_t *envelope, const struct announced *event,
                      struct notification *ret, struct error *err) NODISCARD;
/* One message whose data is plain: what brokers carry. `from` gives source and id. */
bool pubsub_plain_read(struct bytes data, const json_t *attributes, const struct announced *from,
                       struct notification *ret, struct error *err) NODISCARD;
bool pubsub_is_unwrapped(const struct request *req);
bool pubsub_unwrapped_read(const struct request *req, struct notification *ret,
                           struct error *err) NODISCARD;
