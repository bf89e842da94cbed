/* gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): a call's headers, its one message each way, its
 * status. Unary calls only. Pure; thread-safe.
 *
 * A request's message may be compressed with gzip: what it unpacks to counts as a body does.
 * Replies are not compressed. Errors become a grpc-status; to UNAVAILABLE belongs
 * grpc-retry-pushback-ms, as Retry-After belongs to a 503. */
#pragma once

#include "http/rpc.h"

/* For server_options.rpc. */
extern const struct rpc_protocol grpc_protocol;

/* The grpc-status of an error: google.rpc.Code. */
int grpc_status_of(enum error_code code);

/* The value of a grpc-timeout: at most 8 digits and a unit, H M S m u n; rounded up to
 * milliseconds. ERROR_BAD_REQUEST. */
bool grpc_timeout_parse(const char *text, int64_t *ret_ms, struct error *err) NODISCARD;

/* The value of a grpc-message: what is not printable ASCII, and '%', as %XX. What does not fit is
 * cut, between two characters of the encoding. */
void grpc_message_encode(const char *text, char *out, size_t size);
