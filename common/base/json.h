/* Parsing JSON. All of Jansson's memory is asked for by xmalloc (json.c says why). Thread-safe. */
#pragma once

#include "base/bytes.h"

#include <jansson.h>

static inline void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define CLEANUP_JSON CLEANUP(cleanup_json)

/* The value of a text, a new reference; `flags` are json_loadb's. NULL: ERROR_BAD_REQUEST with what
 * is wrong with it. */
json_t *json_read(struct bytes text, size_t flags, struct error *err) NODISCARD;

/* The text of `json`, whose reference this takes over, appended to out. ERROR_BAD_REQUEST for the
 * NULL that json_pack makes of a text that is not UTF-8. */
bool json_append(json_t *json, struct buffer *out, struct error *err) NODISCARD;

/* Whether it is this string. `value` may be NULL. */
bool json_is_text(const json_t *value, const char *text);

/* An upper bound, in bytes, of the memory that parsing takes for this text, valid or not. A tree of
 * values takes far more than its text (`[],` 40 times as much), so that a limit on bytes alone
 * bounds little: ask before parsing what strangers send. */
int64_t json_cost(struct bytes text);
