/* A call whose messages come and go one by one (ROUTER_STREAM): what lies between its handler,
 * which waits on a thread of its own, and the loop that moves the bytes of HTTP/2.
 *
 * Bounded both ways. What the client has sent and the handler has not read is at most a stream's
 * window, and charged to the byte budget: the window is given back as the handler reads. What the
 * handler has written and the client has not taken is at most RPC_OUT_MAX: then the handler waits.
 *
 * The handler's side waits until the call's deadline at the latest. It fails when the client has
 * gone, when it sends nothing for BODY_STALL_MS while the handler waits for it, and at the end of a
 * shutdown's grace. To take messages the client may keep the handler waiting for 30 s in all; each
 * 16 KiB that it takes give back one second. After a failure all calls fail in the same way.
 *
 * ERROR_DEADLINE, ERROR_TOO_SLOW, ERROR_OVERLOADED (the budget), ERROR_SHUTTING_DOWN,
 * ERROR_UNAVAILABLE (the client has gone and does not see it). */
#pragma once

#include "http/reply.h"
#include "http/request.h"

enum { RPC_OUT_MAX = 65536 };

struct rpc_stream;
struct exchange;

/* ---- for the handler: one thread at a time ---- */

/* `size` bytes; *ret is less at the end of what the client sends. */
bool rpc_read(struct rpc_stream *stream, void *out, size_t size, size_t *ret,
              struct error *err) NODISCARD;
/* The bytes will be sent. The first ones send rpc_head before them. */
bool rpc_write(struct rpc_stream *stream, struct bytes data, struct error *err) NODISCARD;
/* The reply's head: status, content type and headers may be set until the first rpc_write. A
 * handler that writes nothing sends the head of the reply that it returns. */
struct reply *rpc_head(struct rpc_stream *stream);
bool rpc_has_written(const struct rpc_stream *stream);
/* Wait that long, or less. False: it has failed. */
bool rpc_wait(struct rpc_stream *stream, int64_t ms, struct error *err) NODISCARD;

/* Add to the request's body, as if a POST had sent it: charged, limited, timed and evicted like
 * every body. ERROR_TOO_LARGE, too. */
bool rpc_keep(struct rpc_stream *stream, struct bytes data, struct error *err) NODISCARD;
/* The whole body, valid until the handler returns. Only after rpc_read has come to the end. */
struct bytes rpc_kept(const struct rpc_stream *stream);
/* Until when what begins now may take: a request's deadline counts from the end of its body. */
int64_t rpc_deadline(const struct rpc_stream *stream);

/* ---- for the loop ---- */

/* The exchange has begun its body; borrowed. `wake` is called, on any thread, when there is
 * something to send, or a window to give back. */
struct rpc_stream *rpc_stream_new(struct exchange *x, void (*wake)(void *ctx), void *ctx);
/* The handler has returned: what it has not read is of no use. */
void rpc_drop(struct rpc_stream *stream);
void rpc_stream_free(struct rpc_stream *stream);

void rpc_put(struct rpc_stream *stream, struct bytes data);
void rpc_put_end(struct rpc_stream *stream);
/* Bytes that the handler has read since this was asked last. */
size_t rpc_taken(struct rpc_stream *stream);
/* Move what is to be sent to `out`. */
size_t rpc_take(struct rpc_stream *stream, uint8_t *out, size_t size);
/* Bytes that wait to be sent. */
size_t rpc_unsent(struct rpc_stream *stream);
void rpc_fail(struct rpc_stream *stream, const struct error *why);
/* The deadlines may have changed. */
void rpc_look(struct rpc_stream *stream);
/* Whether the client takes nothing: it will not take an answer either. */
bool rpc_is_stuck(struct rpc_stream *stream);
