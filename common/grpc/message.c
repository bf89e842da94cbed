#include "grpc/message.h"

enum {
    PIECE_BYTES = 16, /* what a piece costs beside its bytes */
};

static void *take(void *ctx, size_t size)
{
    struct grpc_message *m = ctx;
    const int64_t cost = (int64_t)size + PIECE_BYTES;

    if (m->pieces >= GRPC_MESSAGE_PIECES_MAX || size > INT32_MAX ||
        !byte_budget_take(m->budget, cost))
        return NULL;
    m->pieces++;
    m->charged += cost;
    return malloc(size);
}

/* The charge is given back with the whole message. */
static void give(void *ctx, void *piece)
{
    (void)ctx;
    free(piece);
}

bool grpc_message_parse(const ProtobufCMessageDescriptor *type, struct bytes body,
                        struct byte_budget *budget, struct grpc_message *ret, struct error *err)
{
    ProtobufCAllocator allocator = {take, give, ret};

    *ret = (struct grpc_message){.budget = budget};
    ret->message = protobuf_c_message_unpack(type, &allocator, body.len,
                                             body.len > 0 ? body.data : (const uint8_t *)"");
    if (ret->message != NULL)
        return true;
    bool full = ret->budget->max - atomic_load(&ret->budget->used) < (int64_t)body.len;
    bool pieces = ret->pieces >= GRPC_MESSAGE_PIECES_MAX;
    grpc_message_done(ret);
    if (full)
        return error_set(err, ERROR_OVERLOADED, "no room for a message of %zu bytes", body.len);
    return error_set(err, ERROR_BAD_REQUEST, "the message is %s%s",
                     pieces ? "in too many pieces to be a " : "not a ", type->name);
}

bool grpc_message_read(const ProtobufCMessageDescriptor *type, const struct request *req,
                       struct grpc_message *ret, struct error *err)
{
    return grpc_message_parse(type, req->body, req->context.budget, ret, err);
}

void grpc_message_done(struct grpc_message *m)
{
    ProtobufCAllocator allocator = {take, give, m};

    if (m->message != NULL)
        protobuf_c_message_free_unpacked(m->message, &allocator);
    if (m->charged > 0)
        byte_budget_give(m->budget, m->charged);
    *m = (struct grpc_message){0};
}

char *grpc_text(const char *text)
{
    union {
        const char *in;
        char *out;
    } same = {.in = text};

    return same.out;
}

ProtobufCBinaryData grpc_bytes(struct bytes data)
{
    union {
        const uint8_t *in;
        uint8_t *out;
    } same = {.in = data.data};

    return (ProtobufCBinaryData){.len = data.len, .data = same.out};
}

struct reply grpc_reply(const struct request *req, const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    struct buffer body = BUFFER_MAX(size);
    struct error err = {0};

    if (!byte_budget_take(req->context.budget, (int64_t)size)) {
        error_set(&err, ERROR_OVERLOADED, "no room for a reply of %zu bytes", size);
        return reply_error(&err);
    }
    if (!buffer_reserve(&body, size, &err)) {
        byte_budget_give(req->context.budget, (int64_t)size);
        return reply_error(&err);
    }
    body.len = protobuf_c_message_pack(message, body.data);
    struct reply reply = reply_buffer(200, "application/grpc", &body);
    reply.charged_bytes = (int64_t)size;
    return reply;
}
