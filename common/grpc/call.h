/* gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): a call's headers, its messages' prefixes, its
 * status; stream.h is for calls with more than one message each way. Pure; thread-safe.
 *
 * A request's message may be compressed with gzip: what it unpacks to counts as a body does.
 * So may be a reply's, if its client takes it and it saves a quarter. Errors become a grpc-status;
 * to UNAVAILABLE belongs grpc-retry-pushback-ms, as Retry-After belongs to a 503. */
#pragma once

#include "http/rpc.h"

/* For server_options.rpc. */
extern const struct rpc_protocol grpc_protocol;
/* Calls for clients that cannot read HTTP/2's trailers (browsers, curl, HTTP/1.1): gRPC-Web
 * (grpc/doc/PROTOCOL-WEB.md), whose trailers are the last frame of the body. Unary calls only; a
 * call's headers, message and status are gRPC's. */
extern const struct rpc_protocol grpc_web_protocol;
/* Connect's unary calls (connectrpc.com/docs/protocol): a POST whose body is the message and
 * nothing else, over HTTP/1.1 and HTTP/2. Errors are JSON with an HTTP status. Messages are
 * protocol buffers (application/proto); there is neither JSON nor GET. */
extern const struct rpc_protocol connect_protocol;

/* The grpc-status of an error: google.rpc.Code. */
int grpc_status_of(enum error_code code);

/* What stands before a message: whether it is compressed, and its length, at most `max`.
 * ERROR_BAD_REQUEST, ERROR_TOO_LARGE. */
bool grpc_prefix_read(const uint8_t prefix[REPLY_PREFIX_LEN], size_t max, size_t *ret,
                      struct error *err) NODISCARD;
void grpc_prefix_write(bool packed, size_t len, uint8_t out[REPLY_PREFIX_LEN]);
/* The message behind that prefix, uncompressed. ERROR_TOO_LARGE: more than `max` bytes. */
bool grpc_message_open(const struct request *req, const uint8_t prefix[REPLY_PREFIX_LEN],
                       struct bytes message, size_t max, struct decoded_body *ret,
                       struct error *err) NODISCARD;

bool grpc_accepts_gzip(const struct request *req);
/* Pack a message that is sent, where the client takes it and it pays; whether it is packed now. */
bool grpc_pack(const struct request *req, struct buffer *message) NODISCARD;

/* What every reply's head has. */
void grpc_head(struct reply *reply);
/* A handler's own trailer, of a reply that is not an error; `name` is static. A "grpc-status" among
 * them is the call's. */
void grpc_add_trailer(struct reply *reply, const char *name, const char *value);

/* The value of a grpc-timeout: at most 8 digits and a unit, H M S m u n; rounded up to
 * milliseconds. ERROR_BAD_REQUEST. */
bool grpc_timeout_parse(const char *text, int64_t *ret_ms, struct error *err) NODISCARD;

/* The value of a grpc-message: what is not printable ASCII, and '%', as %XX. What does not fit is
 * cut, between two characters of the encoding. */
void grpc_message_encode(const char *text, char *out, size_t size);
