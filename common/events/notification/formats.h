/* What the readers of notification.h's formats share. */
#pragma once

#include "base/bytes.h"

#include <jansson.h>

enum {
    NOTIFICATION_BYTES_MAX = 1024 * 1024,
    NOTIFICATION_RECORDS_MAX = 100,
    /* json_cost of one piece of JSON: a hundred records take a fifth of it, one long string all. */
    NOTIFICATION_COST_MAX = 4 * NOTIFICATION_BYTES_MAX + 65536,
};

static inline void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define CLEANUP_JSON CLEANUP(cleanup_json)

/* A JSON object, a new reference. NULL: ERROR_BAD_REQUEST says what `what` is not, ERROR_TOO_LARGE
 * when parsing would take too much memory. */
json_t *notification_parse(struct bytes text, const char *what, struct error *err) NODISCARD;

/* The text of a member: "" when it is absent. ERROR_BAD_REQUEST when it is no string. */
bool notification_text(const json_t *object, const char *name, const char **ret,
                       struct error *err) NODISCARD;

/* Where the resource of a Cloud Storage object says it is. False when `resource` is none. */
bool notification_resource(const json_t *resource, const char **bucket, const char **name);
