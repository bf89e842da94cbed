#include "../test_cases.h"
#include "grpc/call.h"

static void check_timeout(const char *text, int64_t expected)
{
    struct error err = {0};
    int64_t ms = -1;

    assert_true(grpc_timeout_parse(text, &ms, &err));
    assert_int_equal(ms, expected);
}

TEST(timeouts_are_milliseconds)
{
    static const char *const bad[] = {"",   "5",   "m",   "123456789m", "-1S", "1.5S",
                                      "1x", "1SS", " 1S", "1 S",        "1h"};
    struct error err = {0};
    int64_t ms;

    check_timeout("2H", 7200000);
    check_timeout("3M", 180000);
    check_timeout("4S", 4000);
    check_timeout("5m", 5);
    check_timeout("1500u", 2); /* rounded up: it is no longer than that */
    check_timeout("1n", 1);
    check_timeout("0m", 0);
    check_timeout("99999999H", 99999999 * INT64_C(3600000));
    check_timeout("99999999n", 100);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_false(grpc_timeout_parse(bad[i], &ms, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
    }
}

TEST(messages_are_percent_encoded)
{
    char out[32], small[6];

    grpc_message_encode("plain text~", out, sizeof(out));
    assert_string_equal(out, "plain text~");
    grpc_message_encode("50%\n\xc3\xbc\x7f", out, sizeof(out));
    assert_string_equal(out, "50%25%0A%C3%BC%7F");
    grpc_message_encode("abcd%", small, sizeof(small)); /* no half an escape */
    assert_string_equal(small, "abcd");
    grpc_message_encode("abcdef", small, sizeof(small));
    assert_string_equal(small, "abcde");
}

static bool is_call(const char *method, const char *type, bool trailers)
{
    static const struct rpc_protocol *const protocols[] = {&grpc_protocol, NULL};
    const struct http_field field = {"content-type", type};

    return rpc_find(protocols,
                    &(struct request){.method = method, .headers = &field, .header_count = 1},
                    trailers) == &grpc_protocol;
}

TEST(calls_are_told_by_their_type)
{
    assert_true(is_call("POST", "application/grpc", true));
    assert_true(is_call("POST", "application/grpc+proto", true));
    assert_true(is_call("POST", "Application/gRPC;x=y", true));
    assert_false(is_call("POST", "application/grpc", false));
    assert_false(is_call("GET", "application/grpc", true));
    assert_false(is_call("POST", "application/grpc-web", true));
    assert_false(is_call("POST", "application/grpc+json", true));
    assert_false(is_call("POST", "application/json", true));
    assert_null(rpc_find(NULL, &(struct request){.method = "POST"}, true));
}

static struct reply closed(struct reply reply)
{
    grpc_protocol.close(&(struct request){0}, &reply);
    return reply;
}

TEST(a_message_gets_its_prefix)
{
    static const uint8_t prefix[] = {0, 0, 0, 1, 2};
    static char text[258 + 1];

    memset(text, 'x', sizeof(text) - 1);
    struct reply reply = closed(reply_text(200, "application/grpc", text));
    assert_true(reply.call->has_message);
    assert_memory_equal(reply.call->prefix, prefix, sizeof(prefix));
    assert_int_equal(reply.call->trailer_count, 1);
    assert_string_equal(reply.call->trailers[0].name, "grpc-status");
    assert_string_equal(reply.call->trailers[0].value, "0");
    reply_done(&reply);
}

TEST(an_error_is_trailers_alone)
{
    struct error err;

    error_set(&err, ERROR_OVERLOADED, "the secret reason");
    struct reply reply = closed(reply_error(&err));
    assert_int_equal(reply.status, 200);
    assert_false(reply.call->has_message);
    assert_int_equal(reply.body.len, 0);
    assert_string_equal(reply.call->trailers[0].value, "14");
    assert_null(strstr(reply.call->trailers[1].value, "secret"));
    assert_string_equal(reply.call->trailers[2].name, "grpc-retry-pushback-ms");
    reply_done(&reply);
    error_set(&err, ERROR_BAD_REQUEST, "100%% wrong");
    reply = closed(reply_error(&err));
    assert_string_equal(reply.call->trailers[0].value, "3");
    assert_string_equal(reply.call->trailers[1].name, "grpc-message");
    assert_string_equal(reply.call->trailers[1].value, "100%25 wrong");
    assert_int_equal(reply.call->trailer_count, 2);
    reply_done(&reply);
}

TEST(without_a_message_there_is_none)
{
    struct reply reply = closed(reply_empty(200));

    assert_false(reply.call->has_message);
    assert_string_equal(reply.call->trailers[0].value, "0");
    reply_done(&reply);
}

TEST(a_handlers_own_trailers)
{
    struct error err;
    struct reply reply = reply_empty(200);

    grpc_add_trailer(&reply, "x-mine", "1");
    grpc_add_trailer(&reply, "grpc-status", "10");
    reply = closed(reply);
    assert_int_equal(reply.call->trailer_count, 2);
    assert_string_equal(reply.call->trailers[1].value, "10");
    /* it cannot be sent after all */
    error_set(&err, ERROR_OVERLOADED, "no room");
    reply.error = err;
    reply = closed(reply);
    assert_string_equal(reply.call->trailers[0].name, "grpc-status");
    assert_string_equal(reply.call->trailers[0].value, "14");
    for (int i = 0; i < 2 * REPLY_TRAILERS_MAX; i++)
        grpc_add_trailer(&reply, "x-mine", "1");
    assert_int_equal(reply.call->trailer_count, REPLY_TRAILERS_MAX);
    reply_done(&reply);
}

static bool accepts(const char *value)
{
    const struct http_field field = {"grpc-accept-encoding", value};

    return grpc_accepts_gzip(&(struct request){.headers = &field, .header_count = 1});
}

TEST(gzip_is_taken)
{
    assert_true(accepts("gzip"));
    assert_true(accepts("identity,deflate,gzip"));
    assert_true(accepts("identity, gzip , x"));
    assert_false(accepts(""));
    assert_false(accepts("identity,gzipped,xgzip"));
    assert_false(grpc_accepts_gzip(&(struct request){0}));
}

TEST(what_is_packed_is_smaller)
{
    const struct http_field field = {"grpc-accept-encoding", "gzip"};
    const struct request req = {.headers = &field, .header_count = 1};
    struct buffer message = BUFFER_MAX(100000);
    struct error err = {0};

    for (uint32_t n = 1, i = 0; i < 25000; i++, n = n * 1664525 + 1013904223)
        assert_true(buffer_append(&message, &n, sizeof(n), &err));
    assert_false(grpc_pack(&req, &message)); /* as good as random */
    assert_int_equal(message.len, 100000);
    memset(message.data, 'x', 8192);
    assert_false(grpc_pack(&req, &message)); /* in spite of its beginning */
    memset(message.data, 'x', message.len);
    assert_false(grpc_pack(&(struct request){0}, &message));
    assert_true(grpc_pack(&req, &message));
    assert_true(message.len < 1000 && message.data[0] == 0x1f);
    message.len = 100;
    memset(message.data, 'x', message.len);
    assert_false(grpc_pack(&req, &message));
    buffer_done(&message);
}

TEST(a_prefix_tells_the_bodys_length)
{
    static const uint8_t first[] = {0, 0, 1, 0, 2, 'x'};

    assert_int_equal(grpc_protocol.expect(bytes_of(first, sizeof(first))), 5 + 65538);
    assert_int_equal(grpc_protocol.expect(bytes_of(first, 4)), 0);
    assert_int_equal(grpc_protocol.expect(bytes_of(first + 3, 3)), 0);
}

TEST_MAIN(NULL, NULL)
