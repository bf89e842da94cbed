/* CloudEvents 1.0, binary and structured. Appends to *ret. */
#pragma once

#include "events/notification/announcement.h"
#include "http/request.h"

bool cloudevent_is_structured(const struct request *req);
bool cloudevent_is_binary(const struct request *req);
/* Both modes. */
bool cloudevent_read(const struct request *req, struct notification *ret,
                     struct error *err) NODISCARD;
