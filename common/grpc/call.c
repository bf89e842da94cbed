#include "grpc/call.h"

#include "base/strings.h"
#include "base/xmalloc.h"

#include <string.h>

enum {
    PUSHBACK_MS = 1000,
    UNAVAILABLE = 14,
    PACK_MIN = 1024, /* bytes: less fits into one segment anyway */
    SAMPLE = 4096,
};

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
                         "grpc-timeout must be 1 to 8 digits, then H, M, S, m, u or n");
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
        return error_set(err, ERROR_NOT_IMPLEMENTED, "grpc-encoding must be gzip or identity");
    return body_unpack(packed, CODING_GZIP, req->context.budget, max, ret, err);
}

bool grpc_prefix_read(const uint8_t prefix[REPLY_PREFIX_LEN], size_t max, size_t *ret,
                      struct error *err)
{
    if (prefix[0] > 1)
        return error_set(err, ERROR_BAD_REQUEST, "the call has no message");
    *ret = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
    return *ret <= max ||
           error_set(err, ERROR_TOO_LARGE, "the message is larger than %zu bytes", max);
}

void grpc_prefix_write(bool packed, size_t len, uint8_t out[REPLY_PREFIX_LEN])
{
    const uint8_t prefix[] = {packed, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
                              (uint8_t)(len >> 8), (uint8_t)len};

    memcpy(out, prefix, sizeof(prefix));
}

bool grpc_message_open(const struct request *req, const uint8_t prefix[REPLY_PREFIX_LEN],
                       struct bytes message, size_t max, struct decoded_body *ret,
                       struct error *err)
{
    if (prefix[0] == 1)
        return unpack(req, message, max, ret, err);
    *ret = (struct decoded_body){.bytes = message};
    return true;
}

static bool open_message(const struct request *req, size_t max, struct decoded_body *ret,
                         struct error *err)
{
    const uint8_t *data = req->body.data;
    size_t len = 0;

    *ret = (struct decoded_body){0};
    if (req->body.len < REPLY_PREFIX_LEN)
        return error_set(err, ERROR_BAD_REQUEST, "the call has no message");
    if (!grpc_prefix_read(data, max, &len, err))
        return false;
    if (len != req->body.len - REPLY_PREFIX_LEN)
        return error_set(err, ERROR_BAD_REQUEST, "not one whole message");
    return grpc_message_open(req, data, bytes_of(data + REPLY_PREFIX_LEN, len), max, ret, err);
}

/* ---- replies ---- */

bool grpc_accepts_gzip(const struct request *req)
{
    const char *value = request_header(req, "grpc-accept-encoding");
    size_t len = 0;

    for (; value != NULL && *value != '\0'; value += len + strspn(value + len, ", ")) {
        len = strcspn(value, ", ");
        if (len == 4 && strncmp(value, "gzip", len) == 0)
            return true;
    }
    return false;
}

/* At least a quarter is saved. */
static bool pays(size_t packed, size_t len)
{
    return packed <= len - len / 4;
}

/* Whether it is worth the time, by its beginning: pictures are packed already. */
static bool looks_packable(struct bytes message)
{
    size_t len = message.len < SAMPLE ? message.len : SAMPLE;
    struct buffer packed;
    struct error oom;

    if (message.len < PACK_MIN ||
        !body_pack(bytes_of(message.data, len), CODING_GZIP, &packed, &oom))
        return false;
    bool ok = pays(packed.len, len);
    buffer_done(&packed);
    return ok;
}

bool grpc_pack(const struct request *req, struct buffer *message)
{
    struct buffer packed;
    struct error oom;

    if (!grpc_accepts_gzip(req) || !looks_packable(buffer_view(message)) ||
        !body_pack(buffer_view(message), CODING_GZIP, &packed, &oom))
        return false;
    if (!pays(packed.len, message->len)) {
        buffer_done(&packed);
        return false;
    }
    buffer_done(message);
    *message = packed;
    return true;
}

void grpc_head(struct reply *reply)
{
    reply->status = 200;
    reply->content_type = "application/grpc";
    reply_add_header(reply, "grpc-accept-encoding", "identity,gzip");
}

static struct reply_call *call_of(struct reply *reply)
{
    if (reply->call == NULL)
        reply->call = xcalloc(1, sizeof(*reply->call));
    return reply->call;
}

void grpc_add_trailer(struct reply *reply, const char *name, const char *value)
{
    struct reply_call *call = call_of(reply);

    if (call->trailer_count == REPLY_TRAILERS_MAX)
        return;
    struct reply_trailer *trailer = &call->trailers[call->trailer_count++];
    trailer->name = name;
    snprintf(trailer->value, sizeof(trailer->value), "%s", value);
}

static bool has_status(const struct reply_call *call)
{
    for (size_t i = 0; i < call->trailer_count; i++)
        if (strcmp(call->trailers[i].name, "grpc-status") == 0)
            return true;
    return false;
}

static void close_reply(const struct request *req, struct reply *reply)
{
    struct reply_call *call = call_of(reply);
    int status = grpc_status_of(reply->error.code);
    char number[16], message[REPLY_TRAILER_VALUE_MAX];

    snprintf(number, sizeof(number), "%d", status);
    if (status != 0)
        call->trailer_count = 0; /* of an answer that could not be sent */
    if (!has_status(call))
        grpc_add_trailer(reply, "grpc-status", number);
    call->has_message = status == 0 && reply->content_type != NULL;
    if (status == 0) {
        bool packed = grpc_pack(req, &reply->body);
        if (packed)
            reply_add_header(reply, "grpc-encoding", "gzip");
        grpc_prefix_write(packed, reply->body.len, call->prefix);
    } else {
        grpc_message_encode(error_public_detail(&reply->error), message, sizeof(message));
        grpc_add_trailer(reply, "grpc-message", message);
        buffer_done(&reply->body);
    }
    if (status == UNAVAILABLE) {
        snprintf(number, sizeof(number), "%d", PUSHBACK_MS);
        grpc_add_trailer(reply, "grpc-retry-pushback-ms", number);
    }
    grpc_head(reply);
}

static size_t expect(struct bytes first)
{
    struct error err;
    size_t len = 0;

    if (first.len < REPLY_PREFIX_LEN || !grpc_prefix_read(first.data, UINT32_MAX, &len, &err))
        return 0;
    return REPLY_PREFIX_LEN + len;
}

const struct rpc_protocol grpc_protocol = {
    .types = {"application/grpc", "application/grpc+proto"},
    .trailers = true,
    .timeout_ms = timeout_ms,
    .expect = expect,
    .open = open_message,
    .close = close_reply,
};
