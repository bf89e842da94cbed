/* A unary call to another server, over HTTP/2 without TLS, with a connection of its own.
 * Thread-safe. */
#pragma once

#include "client/http_client.h"
#include "grpc/message.h"

struct grpc_remote {
    const char *address;     /* host:port */
    const char *method;      /* "/package.Service/Method" */
    int64_t deadline_ms;     /* sent along as grpc-timeout */
    const atomic_bool *gone; /* as in struct http_call */
    size_t max_reply_bytes;
    struct byte_budget *budget; /* of the reply's message; what is sent is the caller's to charge */
};

/* *ret is the caller's (grpc_message_done). Errors of http_client_call and grpc_message_parse;
 * ERROR_UNAVAILABLE: worth another attempt (UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED, no status);
 * ERROR_BAD_REQUEST: any other status. The message has the status and what the server said. */
bool grpc_remote_call(struct http_client *client, const struct grpc_remote *call,
                      const ProtobufCMessage *in, const ProtobufCMessageDescriptor *type,
                      struct grpc_message *ret, struct error *err) NODISCARD;
