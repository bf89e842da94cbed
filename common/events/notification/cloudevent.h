/* CloudEvents 1.0, binary and structured. Appends to *ret. */
#ifndef DARKROOM_EVENTS_NOTIFICATION_CLOUDEVENT_H
#define DARKROOM_EVENTS_NOTIFICATION_CLOUDEVENT_H

#include "events/notification/announcement.h"
#include "http/request.h"

bool cloudevent_is_structured(const struct request *req);
bool cloudevent_is_binary(const struct request *req);
/* Both modes. */
bool cloudevent_read(const struct request *req, struct notification *ret,
                     struct error *err) NODISCARD;

#endif
