/* Parsing JSON. All of Jansson's memory is asked for by xmalloc (json.c says why). Thread-safe. */
#ifndef DARKROOM_BASE_JSON_H
#define DARKROOM_BASE_JSON_H

#include "base/bytes.h"

#include <jansson.h>

/* The value of a text, a new reference; `flags` are json_loadb's. NULL: ERROR_BAD_REQUEST with what
 * is wrong with it. */
json_t *json_read(struct bytes text, size_t flags, struct error *err) NODISCARD;

#endif
