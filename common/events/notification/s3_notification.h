/* S3 event notifications. Appends to *ret. */
#ifndef DARKROOM_EVENTS_NOTIFICATION_S3_NOTIFICATION_H
#define DARKROOM_EVENTS_NOTIFICATION_S3_NOTIFICATION_H

#include "events/notification/announcement.h"

#include <jansson.h>

bool s3_notification_is(const json_t *body);
bool s3_notification_read(const json_t *body, struct notification *ret,
                          struct error *err) NODISCARD;

#endif
