/* The client connections of one server: who is open, what each is doing, and the clock against the
 * slow. Knows sockets, not libmicrohttpd.
 *
 * Bodies are buffered here, so that another thread can take the memory back: a reaper thread
 * answers and ends what is too slow, and a body that finds the budget full ends the slowest body.
 *   headers: complete within 10 s of their first byte (else 408)
 *   body: a byte at least every body_stall_ms, and body_min_rate after the first 5 s (else 408)
 *   reply: 30 s plus its length at 16 KiB/s (else closed)
 *   idle keep-alive: 60 s (else closed)
 * Thread-safe: each connection is used by its own thread, by the reaper, and by evictions. */
#pragma once

#include "base/bytes.h"
#include "base/context.h"
#include "http/refusal.h"

enum { CONNECTION_RATE_BYTES_PER_MS = 16 }; /* 16 KiB/s, nearly: slower is too slow */

struct connections;
struct connection;

struct connections_options {
    int64_t max_connections;
    int64_t max_body_bytes;
    int64_t body_stall_ms;
    int64_t body_min_rate;      /* bytes/s */
    struct byte_budget *budget; /* borrowed */
};

struct connections *connections_new(const struct connections_options *options,
                                    struct error *err) NODISCARD;
/* No thread uses a connection any more. */
void connections_free(struct connections *all);

int connections_count(struct connections *all);
bool connections_over_limit(struct connections *all);
/* A new request needs the place of one in flight: end the slowest body that has one (503), if it
 * has averaged less than 16 KiB/s for 5 s. Such a body may stay only while there is room. */
bool connections_end_slow_body(struct connections *all);
/* Take that many bytes, at most CONNECTION_CHARGE_STEP, from the budget, if need be at the cost of
 * the slowest body. False: there is none. */
bool connections_take_bytes(struct connections *all, int64_t n) NODISCARD;
/* From now on requests still sending their body are ended with 503 at the deadline. */
void connections_cut_bodies(struct connections *all, int64_t deadline_ms);

/* Whether any request is on its way in, being handled, or being answered. */
bool connections_any_busy(struct connections *all);

/* Register an accepted socket (borrowed). Above max_connections the longest-idle connection is shut
 * down to make room; call it where the next accept would be held back. */
struct connection *connections_add(struct connections *all, int fd);
/* Register a stream of an HTTP/2 connection. `wake` is called when it has been refused or shut down
 * from outside, on any thread, with locks held: it only notes it. */
struct connection *connections_add_stream(struct connections *all, void (*wake)(void *ctx),
                                          void *ctx);
/* The one with this socket; NULL when there is none. */
struct connection *connections_find(struct connections *all, int fd);
/* The address at its other end, without a port; "" where unknown, as for a stream. */
void connection_peer(const struct connection *c, char out[PEER_MAX]);
/* The connection is about to be closed; it is not used any more. */
void connections_remove(struct connection *connection);

/* How an answer on the socket to the request that begins looks. Its lines are borrowed until
 * connection_end_request or connection_linger. */
void connection_set_look(struct connection *c, const struct refusal_look *look);

/* The phases of a request, in this order. `expected`: the body's length as far as it is known, or
 * 0; memory for it is set aside with the first byte, up to CONNECTION_EXPECT_MAX, and charged like
 * all only as bytes arrive. */
void connection_begin_body(struct connection *c, const char *request_id, int64_t expected);
/* Whether the request that begins counts in MAX_INFLIGHT. */
void connection_has_place(struct connection *c, bool has);
/* The body's first bytes tell what the header did not; without effect later. */
void connection_expect(struct connection *c, size_t expected);
/* False once the request has been refused (by the reaper or an eviction): the answer is on the wire
 * already, discard what still comes. *err is set when this call is the one that failed
 * (ERROR_TOO_LARGE, ERROR_OVERLOADED) and the caller is to answer. */
enum connection_append { CONNECTION_APPENDED, CONNECTION_ANSWERED, CONNECTION_FAILED };
enum connection_append connection_append_body(struct connection *c, const void *data, size_t len,
                                              struct error *err) NODISCARD;
/* Answer with `err` on the socket itself, send FIN and discard what still comes. For a failure
 * while the body is on its way, when libmicrohttpd cannot take an answer. */
void connection_refuse(struct connection *c, const struct error *err);
/* A handler reads what arrives, and keeps of it in the body what it likes (rpc_stream.h): the
 * clocks for slow bodies run while it waits for the client, and the least rate counts what it has
 * kept. */
void connection_is_read(struct connection *c);
void connection_awaits(struct connection *c, bool awaited);
void connection_heard(struct connection *c); /* it sent some, which is not enough to go on */
/* The body is complete: *ret is a view of it, valid until connection_drop_body. False when the
 * request was refused before. */
bool connection_begin_handling(struct connection *c, struct bytes *ret) NODISCARD;
void connection_drop_body(struct connection *c);
void connection_begin_reply(struct connection *c, size_t len);
/* Idle again: waiting for the next request. */
void connection_end_request(struct connection *c);
/* After a reply that was sent while the client was still sending: FIN, then read and discard until
 * the client closes, for at most 2 s, so that the reset of a close with unread data cannot eat the
 * reply. Blocks: only for the connection's own thread. */
void connection_linger(struct connection *c);
/* This socket carries HTTP/2: its thread answers, and closes it when it is idle for too long. It
 * may be evicted while it has no streams. */
void connection_speaks_http2(struct connection *c);
void connection_has_streams(struct connection *c, bool any);
/* What was done to a stream from outside; *err is the answer to a refused one. */
enum connection_fate { CONNECTION_FINE, CONNECTION_REFUSED, CONNECTION_SHUT_DOWN };
enum connection_fate connection_fate(struct connection *c, struct error *err);
/* The status of the answer that the reaper or an eviction sent, or 0. */
int connection_refused_status(struct connection *c);
