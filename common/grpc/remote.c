#include "grpc/remote.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <string.h>

enum { STATUS_MAX = 16, DETAIL_MAX = 800, TIMEOUT_MAX_MS = 99999999 };

static bool pack(const ProtobufCMessage *message, struct buffer *out, struct error *err)
{
    const size_t len = protobuf_c_message_get_packed_size(message);
    const uint8_t prefix[] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                              (uint8_t)len};

    *out = (struct buffer)BUFFER_MAX(sizeof(prefix) + len);
    if (!buffer_reserve(out, sizeof(prefix) + len, err) ||
        !buffer_append(out, prefix, sizeof(prefix), err))
        return false;
    out->len += protobuf_c_message_pack(message, out->data + out->len);
    return true;
}

static bool unpack(const struct buffer *body, struct bytes *ret, struct error *err)
{
    const uint8_t *p = body->data;
    const size_t len = body->len < REPLY_PREFIX_LEN || p[0] != 0
                           ? SIZE_MAX
                           : (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];

    if (len != body->len - REPLY_PREFIX_LEN)
        return error_set(err, ERROR_BAD_REQUEST, "the reply is not one whole message");
    *ret = bytes_of(p + REPLY_PREFIX_LEN, len);
    return true;
}

/* grpc-message is percent-encoded. */
static const char *read_detail(const struct http_reply *reply, struct buffer *out)
{
    char text[DETAIL_MAX];
    struct error ignored;

    if (!http_reply_header(reply, "grpc-message", text, sizeof(text)) ||
        !string_percent_decode(text, out, &ignored))
        return "";
    return buffer_cstr(out, &ignored);
}

/* google.rpc.Code */
static bool check_status(const struct http_reply *reply, struct error *err)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    enum { DEADLINE_EXCEEDED = 4, ABORTED = 10, UNAVAILABLE = 14 };
    CLEANUP(buffer_done) struct buffer detail = BUFFER_MAX(DETAIL_MAX);
    char text[STATUS_MAX];
    int64_t status;

    if (!http_reply_header(reply, "grpc-status", text, sizeof(text)) ||
        !string_to_int64(text, 0, ARRAY_SIZE(names) - 1, &status))
        return error_set(err, ERROR_UNAVAILABLE, "HTTP %ld without a grpc-status", reply->status);
    if (status == 0)
        return true;
    const bool again = status == UNAVAILABLE || status == DEADLINE_EXCEEDED || status == ABORTED;
    const char *said = read_detail(reply, &detail);
    return error_set(err, again ? ERROR_UNAVAILABLE : ERROR_BAD_REQUEST, "%s%s%s", names[status],
                     *said != '\0' ? ": " : "", said);
}

bool grpc_remote_call(struct http_client *client, const struct grpc_remote *call,
                      const ProtobufCMessage *in, const ProtobufCMessageDescriptor *type,
                      struct grpc_message *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer body = {0};
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    CLEANUP_FREE char *url = xasprintf("http://%s%s", call->address, call->method);
    const int64_t left_ms = clock_left_ms(call->deadline_ms);
    CLEANUP_FREE char *timeout = xasprintf(
        "grpc-timeout: %lldm", (long long)(left_ms < TIMEOUT_MAX_MS ? left_ms : TIMEOUT_MAX_MS));
    const char *const headers[] = {"Content-Type: application/grpc", "TE: trailers", timeout, NULL};
    struct bytes message = {0};

    if (!pack(in, &body, err) ||
        !http_client_call(client,
                          &(struct http_call){
                              .method = "POST",
                              .url = url,
                              .headers = headers,
                              .body = buffer_view(&body),
                              .deadline_ms = call->deadline_ms,
                              .gone = call->gone,
                              .max_reply_bytes = call->max_reply_bytes,
                              .h2 = true,
                          },
                          &reply, err) ||
        !check_status(&reply, err) || !unpack(&reply.body, &message, err))
        return false;
    buffer_done(&body); /* before there is a third copy of a picture */
    return grpc_message_parse(type, message, call->budget, ret, err);
}
