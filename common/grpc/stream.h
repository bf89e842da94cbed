/* Messages of a call that streams (ROUTER_STREAM), one by one: gRPC's framing on top of
 * http/rpc_stream.h, whose limits, waits and errors hold. For a call's handler, on its thread. */
#pragma once

#include "grpc/message.h"
#include "http/rpc_stream.h"

/* The next message, of at most `max` bytes packed and unpacked; it is charged as it arrives. *ret
 * is the caller's then (grpc_message_done); its `message` is NULL at the end of what the client
 * sends. ERROR_BAD_REQUEST: not such a message, or one that is cut. ERROR_TOO_LARGE. */
bool grpc_read(const struct request *req, const ProtobufCMessageDescriptor *type, size_t max,
               struct grpc_message *ret, struct error *err) NODISCARD;
/* The only message of a call whose client sends one. ERROR_BAD_REQUEST: none, or more. */
bool grpc_read_only(const struct request *req, const ProtobufCMessageDescriptor *type, size_t max,
                    struct grpc_message *ret, struct error *err) NODISCARD;
/* Send a message. It waits when the client is slow. */
bool grpc_write(const struct request *req, const ProtobufCMessage *message,
                struct error *err) NODISCARD;
