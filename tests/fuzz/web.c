/* Calls in their three encodings: a byte says which, then come a line, the timeout, and the body.
 * What is opened can be closed again, and then is what it was; an error's message breaks no
 * framing. */

#include "fuzz.h"
#include "grpc/call.h"

#include <string.h>

enum { BUDGET = 1 << 20, FRAME_LEN = REPLY_PREFIX_LEN };

static const struct rpc_protocol *const protocols[] = {&grpc_protocol, &grpc_web_protocol,
                                                       &connect_protocol};

/* The frame that begins there: its message; *rest is what follows. */
static struct bytes frame(struct bytes in, uint8_t flag, struct bytes *rest)
{
    FUZZ_CHECK(in.len >= FRAME_LEN && in.data[0] == flag);
    size_t len =
        (size_t)in.data[1] << 24 | (size_t)in.data[2] << 16 | (size_t)in.data[3] << 8 | in.data[4];
    FUZZ_CHECK(len <= in.len - FRAME_LEN);
    *rest = bytes_of(in.data + FRAME_LEN + len, in.len - FRAME_LEN - len);
    return bytes_of(in.data + FRAME_LEN, len);
}

/* Each trailer is one line of printable ASCII. */
static void check_trailers(struct bytes in, const char *status)
{
    struct bytes rest, lines = frame(in, 0x80, &rest);

    FUZZ_CHECK(rest.len == 0 && bytes_starts_with(lines, status, strlen(status)));
    for (size_t i = 0; i < lines.len; i++) {
        bool ends = lines.data[i] == '\r';
        FUZZ_CHECK(ends ? i + 1 < lines.len && lines.data[i + 1] == '\n'
                        : lines.data[i] >= ' ' && lines.data[i] <= '~');
        i += ends;
    }
}

static const struct request none;

static void check_reply(const struct rpc_protocol *protocol, struct bytes message)
{
    struct buffer body = BUFFER_MAX(message.len);
    struct error err;
    struct bytes rest;

    FUZZ_CHECK(buffer_append(&body, message.data, message.len, &err));
    struct reply reply = reply_buffer(200, "application/grpc", &body);
    protocol->close(&none, &reply);
    FUZZ_CHECK(reply.status == 200);
    struct bytes sent = buffer_view(&reply.body);
    if (protocol == &grpc_web_protocol) {
        sent = frame(sent, 0, &rest);
        check_trailers(rest, "grpc-status: 0\r\n");
    }
    FUZZ_CHECK(bytes_equal(sent, message));
    reply_done(&reply);
}

static void check_error(const struct rpc_protocol *protocol, const struct error *why)
{
    struct reply reply = reply_error(why);

    protocol->close(&none, &reply);
    if (protocol == &grpc_web_protocol)
        check_trailers(buffer_view(&reply.body), "grpc-status: ");
    if (protocol == &connect_protocol) {
        json_t *json = json_loadb((const char *)reply.body.data, reply.body.len, 0, NULL);
        FUZZ_CHECK(json != NULL && reply.status >= 400);
        json_decref(json);
    }
    reply_done(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const codings[] = {"identity", "gzip", "deflate", "br"};
    struct byte_budget budget = {.max = BUDGET};
    struct bytes in = bytes_of(data, size);
    unsigned first = fuzz_byte(&in);
    const struct rpc_protocol *protocol = protocols[first % ARRAY_SIZE(protocols)];
    const char *coding = codings[first / ARRAY_SIZE(protocols) % ARRAY_SIZE(codings)];
    CLEANUP_FREE char *text = fuzz_line(&in);
    const struct http_field fields[] = {{"grpc-encoding", coding},
                                        {"content-encoding", coding},
                                        {"grpc-timeout", text},
                                        {"connect-timeout-ms", text}};
    const struct request req = {.method = "POST",
                                .headers = fields,
                                .header_count = ARRAY_SIZE(fields),
                                .body = in,
                                .context = {.budget = &budget}};
    struct decoded_body body = {0};
    struct error err = {0};
    int64_t ms = -1;

    if (protocol->timeout_ms(&req, &ms, &err))
        FUZZ_CHECK(ms >= 0);
    else
        check_error(protocol, &err);
    if (protocol->open(&req, BUDGET / 2, &body, &err)) {
        FUZZ_CHECK(body.bytes.len <= BUDGET / 2 || body.bytes.data == in.data);
        check_reply(protocol, body.bytes);
        decoded_body_done(&body);
    } else {
        check_error(protocol, &err);
    }
    error_set(&err, ERROR_BAD_REQUEST, "%s: no such option", text);
    check_error(protocol, &err);
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
    return 0;
}
