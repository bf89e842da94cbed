/* What the server is started with; its lower files read it too. */
#pragma once

#include "http/router.h"
#include "http/rpc.h"

struct server;

/* Connections allowed on top of max_connections, for health checks and refusals. */
enum { CONNECTIONS_SPARE = 64 };

struct server_options {
    const char *host;
    int port;              /* 0: any free one; see server_port */
    const struct app *app; /* given to the handlers */
    const struct route *routes;
    size_t route_count;
    int64_t max_body_bytes;
    int64_t body_stall_ms; /* longest pause in a body */
    int64_t body_min_rate; /* bytes/s, the least average of a body after its first seconds */
    int64_t max_connections;
    int64_t max_inflight;
    int64_t request_timeout_ms;
    struct byte_budget *budget;     /* borrowed; its max bounds the bodies in flight */
    const char *cors_origins;       /* "" for none, "*", or a comma list */
    const char *plain_errors_below; /* a path: errors at and below it are {"error"}; or NULL */
    /* Whether a work request may start now, asked at its headers; false sets *err. May be NULL. */
    bool (*admit)(const struct app *app, struct error *err);
    /* Whether this caller may have what it asks for, asked at the headers of every request (an
     * OPTIONS request has no route); *caller: who it is, zeroed before. False sets *err. May be
     * NULL. On HTTP/2's one thread: it seldom waits. */
    bool (*authorize)(const struct app *app, const struct request *req, struct caller *caller,
                      struct error *err);
    /* Whether that is still so, asked before the handler of a route that is not light, on a thread
     * that may wait. May be NULL. */
    bool (*confirm)(const struct app *app, const struct request *req, const struct caller *caller,
                    struct error *err);
    const struct rpc_protocol *const *rpc; /* of calls; ends with NULL; NULL: none */
    struct server **ready;                 /* set before the first request is served; may be NULL */
};
