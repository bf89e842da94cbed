#include "grpc/call.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <string.h>

enum { PUSHBACK_MS = 1000, UNAVAILABLE = 14 };

/* ---- status ---- */

int grpc_status_of(enum error_code code)
{
    switch (code) {
    case ERROR_NONE:
        return 0;
    case ERROR_BAD_REQUEST:
    case ERROR_BAD_IMAGE:
    case ERROR_UNSUPPORTED_MEDIA:
        return 3;
    case ERROR_DEADLINE:
    case ERROR_TOO_SLOW:
        return 4;
    case ERROR_NOT_FOUND:
        return 5;
    case ERROR_CONFLICT:
        return 6;
    case ERROR_FORBIDDEN:
        return 7;
    case ERROR_TOO_LARGE:
    case ERROR_TOO_MANY:
    case ERROR_HEADERS_TOO_LARGE:
        return 8;
    case ERROR_RANGE:
        return 11;
    case ERROR_METHOD_NOT_ALLOWED:
    case ERROR_NOT_IMPLEMENTED:
        return 12;
    case ERROR_OVERLOADED:
    case ERROR_UNAVAILABLE:
    case ERROR_SHUTTING_DOWN:
        return UNAVAILABLE;
    case ERROR_UNAUTHORIZED:
        return 16;
    case ERROR_INTERNAL:
    case ERROR_CONFIG:
        break;
    }
    return 13;
}

void grpc_message_encode(const char *text, char *out, size_t size)
{
    static const char digits[] = "0123456789ABCDEF";
    char *end = out + size - 1;

    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        bool plain = *p >= 0x20 && *p <= 0x7e && *p != '%';
        if (end - out < (plain ? 1 : 3))
            break;
        if (plain) {
            *out++ = (char)*p;
            continue;
        }
        *out++ = '%';
        *out++ = digits[*p >> 4];
        *out++ = digits[*p & 15];
    }
    *out = '\0';
}

/* ---- headers ---- */

bool grpc_timeout_parse(const char *text, int64_t *ret_ms, struct error *err)
{
    static const char units[] = "HMSmun";
    static const int64_t nanoseconds[] = {3600000000000, 60000000000, 1000000000, 1000000, 1000, 1};
    char digits[9];
    size_t len = strspn(text, "0123456789");
    const char *unit = text[len] != '\0' ? strchr(units, text[len]) : NULL;
    int64_t number = 0;

    if (len == 0 || len >= sizeof(digits) || unit == NULL || text[len + 1] != '\0')
        return error_set(err, ERROR_BAD_REQUEST,
                         "grpc-timeout is not at most 8 digits and one of H, M, S, m, u, n");
    memcpy(digits, text, len);
    digits[len] = '\0';
    if (!string_to_int64(digits, 0, 99999999, &number))
        return error_set(err, ERROR_BAD_REQUEST, "grpc-timeout is not a number");
    int64_t ns = nanoseconds[unit - units];
    *ret_ms = ns >= 1000000 ? number * (ns / 1000000) : (number * ns + 999999) / 1000000;
    return true;
}

static bool timeout_ms(const struct request *req, int64_t *ret, struct error *err)
{
    const char *text = request_header(req, "grpc-timeout");

    *ret = INT64_MAX;
    return text == NULL || grpc_timeout_parse(text, ret, err);
}

/* ---- messages ---- */

static bool unpack(const struct request *req, struct bytes packed, size_t max,
                   struct decoded_body *ret, struct error *err)
{
    const char *encoding = request_header(req, "grpc-encoding");

    if (encoding == NULL || strcmp(encoding, "identity") == 0)
        return error_set(err, ERROR_INTERNAL, "a compressed message without a grpc-encoding");
    if (strcmp(encoding, "gzip") != 0)
        return error_set(err, ERROR_NOT_IMPLEMENTED, "grpc-encoding: gzip is understood, no other");
    return body_unpack(packed, CODING_GZIP, req->context.budget, max, ret, err);
}

static bool open_message(const struct request *req, size_t max, struct decoded_body *ret,
                         struct error *err)
{
    const uint8_t *data = req->body.data;

    *ret = (struct decoded_body){0};
    if (req->body.len < REPLY_PREFIX_LEN || data[0] > 1)
        return error_set(err, ERROR_BAD_REQUEST, "the call has no message");
    size_t len = (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
    if (len > max)
        return error_set(err, ERROR_TOO_LARGE, "the message is larger than %zu bytes", max);
    if (len != req->body.len - REPLY_PREFIX_LEN)
        return error_set(err, ERROR_BAD_REQUEST, "not one whole message");
    struct bytes message = bytes_of(data + REPLY_PREFIX_LEN, len);
    if (data[0] == 1)
        return unpack(req, message, max, ret, err);
    ret->bytes = message;
    return true;
}

static void add_trailer(struct reply_call *call, const char *name, const char *value)
{
    struct reply_trailer *trailer = &call->trailers[call->trailer_count++];

    trailer->name = name;
    snprintf(trailer->value, sizeof(trailer->value), "%s", value);
}

static void close_reply(const struct request *req, struct reply *reply)
{
    struct reply_call *call = xcalloc(1, sizeof(*call));
    int status = grpc_status_of(reply->error.code);
    char number[16], message[REPLY_TRAILER_VALUE_MAX];

    (void)req;
    snprintf(number, sizeof(number), "%d", status);
    add_trailer(call, "grpc-status", number);
    call->has_message = status == 0;
    if (status == 0) {
        size_t len = reply->body.len;
        const uint8_t prefix[] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
                                  (uint8_t)(len >> 8), (uint8_t)len};
        memcpy(call->prefix, prefix, sizeof(prefix));
    } else {
        grpc_message_encode(reply_public_detail(&reply->error), message, sizeof(message));
        add_trailer(call, "grpc-message", message);
        buffer_done(&reply->body);
    }
    if (status == UNAVAILABLE) {
        snprintf(number, sizeof(number), "%d", PUSHBACK_MS);
        add_trailer(call, "grpc-retry-pushback-ms", number);
    }
    reply->status = 200;
    reply->content_type = "application/grpc";
    reply_add_header(reply, "grpc-accept-encoding", "identity,gzip");
    free(reply->call);
    reply->call = call;
}

const struct rpc_protocol grpc_protocol = {
    .types = {"application/grpc", "application/grpc+proto"},
    .trailers = true,
    .timeout_ms = timeout_ms,
    .open = open_message,
    .close = close_reply,
};
