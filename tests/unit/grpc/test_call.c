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

TEST_MAIN(NULL, NULL)
