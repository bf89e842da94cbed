
#include "grpc/call.h"

#include <string.h>

enum {
    TRAILERS = 0x80, /* the flag of their frame */
    FRAME_LEN = REPLY_PREFIX_LEN,
    TRAILERS_MAX = REPLY_TRAILERS_MAX * (REPLY_TRAILER_VALUE_MAX + 64), /* bytes */
};

static bool timeout_ms(const struct request *req, int64_t *ret, struct error *err)
{
    return grpc_protocol.timeout_ms(req, ret, err);
}

static bool open_message(const struct request *req, size_t max, struct decoded_body *ret,
                         struct error *err)
{
    return grpc_protocol.open(req, max, ret, err);
}

/* The trailers' frame; its length. */
static size_t write_trailers(const struct reply_call *call, char out[FRAME_LEN + TRAILERS_MAX])
{
    char *lines = out + FRAME_LEN;
    size_t len = 0;

    for (size_t i = 0; i < call->trailer_count; i++)
        len += (size_t)snprintf(lines + len, TRAILERS_MAX - len, "%s: %s\r\n",
                                call->trailers[i].name, call->trailers[i].value);
    const uint8_t head[] = {TRAILERS, 0, 0, (uint8_t)(len >> 8), (uint8_t)len};
    memcpy(out, head, FRAME_LEN);
    return FRAME_LEN + len;
}

/* The reply's message as a frame, with room for `more` behind it. */
static bool frame_message(struct reply *reply, size_t more, struct error *err)
{
    struct buffer *body = &reply->body;

    body->max = body->len + FRAME_LEN + more;
    if (!buffer_reserve(body, FRAME_LEN + more, err))
        return false;
    if (body->len > 0)
        memmove(body->data + FRAME_LEN, body->data, body->len);
    memcpy(body->data, reply->call->prefix, FRAME_LEN);
    body->len += FRAME_LEN;
    return true;
}

static void close_reply(const struct request *req, struct reply *reply)
{
    char trailers[FRAME_LEN + TRAILERS_MAX];
    struct error err;

    grpc_protocol.close(req, reply);
    size_t len = write_trailers(reply->call, trailers);
    if (reply->call->has_message && !frame_message(reply, len, &err)) {
        reply->error = err;
        grpc_protocol.close(req, reply);
        len = write_trailers(reply->call, trailers);
    }
    reply->body.max = reply->body.len + len;
    if (!buffer_append(&reply->body, trailers, len, &err))
        buffer_done(&reply->body); /* the client sees that the trailers are missing */
    free(reply->call);
    reply->call = NULL;
    reply->content_type = "application/grpc-web+proto";
}

const struct rpc_protocol grpc_web_protocol = {
    .types = {"application/grpc-web", "application/grpc-web+proto"},
    .timeout_ms = timeout_ms,
    .open = open_message,
    .close = close_reply,
};
