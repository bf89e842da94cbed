/* Protocol buffers of a call, by protobuf-c. What a message takes in memory is charged to the
 * request's budget, and bounded in pieces: 1 MiB of empty submessages would be 64 MiB in half a
 * million pieces. Thread-safe. */
#pragma once

#include "http/reply.h"
#include "http/request.h"

#include <protobuf-c/protobuf-c.h>

enum { GRPC_MESSAGE_PIECES_MAX = 4096 };

/* Zero-initialise. */
struct grpc_message {
    ProtobufCMessage *message;
    struct byte_budget *budget;
    int64_t charged;
    int pieces;
};

/* Read the request's body as a message of that type. What it holds is valid until
 * grpc_message_done. ERROR_BAD_REQUEST: not such a message, or in too many pieces.
 * ERROR_OVERLOADED: no room for it now. */
bool grpc_message_read(const ProtobufCMessageDescriptor *type, const struct request *req,
                       struct grpc_message *ret, struct error *err) NODISCARD;
/* The same of any bytes. */
bool grpc_message_parse(const ProtobufCMessageDescriptor *type, struct bytes body,
                        struct byte_budget *budget, struct grpc_message *ret,
                        struct error *err) NODISCARD;
void grpc_message_done(struct grpc_message *m);

/* A text and bytes for a message that is sent: protobuf-c has no const, and only reads them. */
char *grpc_text(const char *text);
ProtobufCBinaryData grpc_bytes(struct bytes data);
/* The reply with that message. It is charged to the request's budget. */
struct reply grpc_reply(const struct request *req, const ProtobufCMessage *message);
