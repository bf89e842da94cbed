/* The HTTP server: libmicrohttpd (no other file includes it), one thread per connection. Connection
 * threads do I/O only; handlers put CPU work on the worker pool.
 *
 * What is refused at the headers, before a byte of the body is read: ambiguous framing, unknown
 * path or method, a Content-Length over the limit, and, on routes that are not `light`, anything
 * while shutting down, above MAX_INFLIGHT or MAX_CONNECTIONS, or when `admit` says no; last, what
 * `authorize` says no to. A refusal reaches its client even if that is still sending
 * (connections_remove). */
#pragma once

#include "http/server_options.h"

/* Listen and serve. Raises RLIMIT_NOFILE as far as max_connections needs, or ERROR_CONFIG.
 * Everything in `options` is borrowed until server_stop. NULL on failure. */
struct server *server_start(const struct server_options *options, struct error *err) NODISCARD;
int server_port(const struct server *server);

int server_inflight(struct server *server);
int server_connections(struct server *server);
bool server_is_draining(const struct server *server);

/* Shutdown, first half: new work gets 503 and "Connection: close" while the listener stays
 * open; returns when no request is in flight, or at the deadline. Requests whose bodies are still
 * on their way at the deadline get 503. */
void server_drain(struct server *server, int64_t deadline_ms);
/* Second half: answer what waits in the accept backlog with 503, close everything, free. */
void server_stop(struct server *server);
