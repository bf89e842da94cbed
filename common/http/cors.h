/* Cross-origin requests (the Fetch standard's CORS protocol): what a browser is told about pages of
 * other origins, and the answer to its preflight. Pure; thread-safe.
 * `origins` is the setting: "" for none, "*", or a comma list. */
#pragma once

#include "http/router.h"

/* Add the headers that any reply to `req` needs. */
void cors_add(const char *origins, const struct request *req, struct reply *reply);

/* The same as header lines, for an answer that is not a struct reply; "" when there are none. */
enum { CORS_LINES_MAX = 512 };
void cors_lines(const char *origins, const struct request *req, char out[CORS_LINES_MAX]);

/* The answer to an OPTIONS request, without what cors_add adds. `allow`: the path's methods, from
 * router_allow; "" makes it a 404. */
struct reply cors_preflight(const char *origins, const char *allow);
