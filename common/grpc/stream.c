#include "grpc/stream.h"

#include "grpc/call.h"

enum {
    STEP = 65536, /* bytes charged and read at a time */
    ASIDE_MAX = 1 << 20,
};

/* A message as it came, without its prefix. */
struct packed {
    struct buffer data;
    struct byte_budget *budget;
    int64_t charged;
};

static void packed_done(struct packed *p)
{
    buffer_done(&p->data);
    if (p->charged > 0)
        byte_budget_give(p->budget, p->charged);
}

static bool is_cut(struct error *err)
{
    return error_set(err, ERROR_BAD_REQUEST, "the last message is not whole");
}

static bool read_packed(struct rpc_stream *stream, size_t len, struct packed *ret,
                        struct error *err)
{
    struct buffer *data = &ret->data;

    data->max = len;
    /* room for all of it at once, if it may be so large: it is charged as it comes */
    if (len > 0 && !buffer_reserve(data, len < ASIDE_MAX ? len : ASIDE_MAX, err))
        return false;
    while (data->len < len) {
        size_t step = len - data->len < STEP ? len - data->len : STEP, n;
        if (!byte_budget_take(ret->budget, (int64_t)step))
            return error_set(err, ERROR_OVERLOADED, "no room for a message of %zu bytes", len);
        ret->charged += (int64_t)step;
        if (!buffer_reserve(data, step, err) ||
            !rpc_read(stream, data->data + data->len, step, &n, err))
            return false;
        data->len += n;
        if (n < step)
            return is_cut(err);
    }
    return true;
}

bool grpc_read(const struct request *req, const ProtobufCMessageDescriptor *type, size_t max,
               struct grpc_message *ret, struct error *err)
{
    CLEANUP(packed_done) struct packed packed = {.budget = req->context.budget};
    CLEANUP(decoded_body_done) struct decoded_body message = {0};
    struct request one = *req;
    uint8_t prefix[REPLY_PREFIX_LEN];
    size_t n, len;

    *ret = (struct grpc_message){0};
    if (!rpc_read(req->stream, prefix, sizeof(prefix), &n, err))
        return false;
    if (n == 0)
        return true;
    if (n < sizeof(prefix))
        return is_cut(err);
    if (!grpc_prefix_read(prefix, max, &len, err) || !read_packed(req->stream, len, &packed, err) ||
        !grpc_message_open(req, prefix, buffer_view(&packed.data), max, &message, err))
        return false;
    one.body = message.bytes;
    return grpc_message_read(type, &one, ret, err);
}

bool grpc_read_only(const struct request *req, const ProtobufCMessageDescriptor *type, size_t max,
                    struct grpc_message *ret, struct error *err)
{
    CLEANUP(grpc_message_done) struct grpc_message second = {0};

    if (!grpc_read(req, type, max, ret, err))
        return false;
    if (ret->message == NULL)
        return error_set(err, ERROR_BAD_REQUEST, "the call has no message");
    if (grpc_read(req, type, max, &second, err)) {
        if (second.message == NULL)
            return true;
        error_set(err, ERROR_BAD_REQUEST, "more than one message");
    }
    grpc_message_done(ret);
    return false;
}

/* The head goes out before it is known whether a message is packed. */
static void begin(const struct request *req)
{
    struct reply *head = rpc_head(req->stream);

    grpc_head(head);
    if (grpc_accepts_gzip(req))
        reply_add_header(head, "grpc-encoding", "gzip");
}

bool grpc_write(const struct request *req, const ProtobufCMessage *message, struct error *err)
{
    struct reply one = grpc_reply(req, message);
    uint8_t prefix[REPLY_PREFIX_LEN];

    if (one.error.code != ERROR_NONE) {
        *err = one.error;
        reply_done(&one);
        return false;
    }
    if (!rpc_has_written(req->stream))
        begin(req);
    bool packed = grpc_pack(req, &one.body);
    grpc_prefix_write(packed, one.body.len, prefix);
    bool ok = rpc_write(req->stream, bytes_of(prefix, sizeof(prefix)), err) &&
              rpc_write(req->stream, buffer_view(&one.body), err);
    byte_budget_give(req->context.budget, one.charged_bytes);
    reply_done(&one);
    return ok;
}
