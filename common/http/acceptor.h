/* Listens, accepts connections and looks at their first bytes: HTTP/2 begins with "PRI" (RFC
 * 9113, 3.4), and no method of HTTP/1.1 does. Who has sent fewer bytes than tell costs a socket,
 * and no thread. Each is in `connections` from the accept on: it counts against the limit, and the
 * reaper and evictions may end it. */
#pragma once

#include "http/connections.h"

/* A non-blocking socket listening on host and port (0: any free one), or -1: ERROR_CONFIG. */
int listener_open(const char *host, int port, struct error *err) NODISCARD;
/* The port a socket is bound to; 0 when that cannot be told. */
int listener_port(int fd);
/* Raise RLIMIT_NOFILE as far as so many connections need. ERROR_CONFIG. */
bool listener_raise_fd_limit(int64_t max_connections, struct error *err) NODISCARD;

struct acceptor;

struct acceptor_options {
    int listen_fd; /* non-blocking; borrowed */
    struct connections *connections;
    int64_t most; /* connections at one time; above it they wait in the backlog */
    /* Take over a connection and its non-blocking socket. */
    void (*take)(void *ctx, struct connection *c, int fd, bool http2);
    void *ctx;
};

/* NULL: ERROR_OVERLOADED. */
struct acceptor *acceptor_start(const struct acceptor_options *options,
                                struct error *err) NODISCARD;
/* Accept no more. Returns when the last one is in `connections`. */
void acceptor_quiesce(struct acceptor *a);
/* Quiesce, close those that were not taken over, free. */
void acceptor_stop(struct acceptor *a);
