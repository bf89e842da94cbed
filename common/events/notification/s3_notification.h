/* S3 event notifications. Appends to *ret. */
#pragma once

#include "events/notification/announcement.h"

#include <jansson.h>

bool s3_notification_is(const json_t *body);
bool s3_notification_read(const json_t *body, struct notification *ret,
                          struct error *err) NODISCARD;
