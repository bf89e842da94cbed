/* The route table: which function answers which method and path. Pure; thread-safe. */
#pragma once

#include "http/reply.h"
#include "http/request.h"

struct app; /* each service has its own */

typedef struct reply (*route_handler)(const struct app *app, const struct request *req);

/* The method of a route for calls (rpc.h). No request has it: neither protocol lets a line's end
 * into a method. */
#define ROUTER_CALL "call\n"
/* The same for a call whose messages come and go one by one, by rpc_stream.h. What the handler
 * returns is the status, and perhaps a last message. It may be `light`, too: then it counts against
 * ADMISSION_WATCHES_MAX instead of MAX_INFLIGHT. */
#define ROUTER_STREAM "stream\n"

struct route {
    const char *method;  /* "GET" (also answers HEAD), "POST", "PATCH", "DELETE", or ROUTER_… */
    const char *pattern; /* "/images/{id}": a segment in braces (one at most) matches any */
    route_handler handle;
    unsigned flags; /* enum route_flags */
};

bool router_is_call(const struct route *route);

/* The route of a request, or with ROUTER_CALL of either kind of call; *argument is then the path
 * from what {…} matched on (with the rest of the pattern, if it goes on), a suffix of `path`, or
 * "". Otherwise NULL: ERROR_NOT_FOUND, or ERROR_METHOD_NOT_ALLOWED. */
const struct route *router_find(const struct route *routes, size_t count, const char *method,
                                const char *path, const char **argument, struct error *err);

enum { ROUTER_ALLOW_MAX = 64 };
/* The Allow header for a path: "GET, HEAD, OPTIONS"; "" when no route has that path. A call's is
 * "POST, OPTIONS". */
void router_allow(const struct route *routes, size_t count, const char *path,
                  char out[ROUTER_ALLOW_MAX]);
