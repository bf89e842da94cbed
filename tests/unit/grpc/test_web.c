#include "grpc/call.h"

#include "../test_cases.h"

static const struct rpc_protocol *protocol(const char *method, const char *type)
{
    static const struct rpc_protocol *const protocols[] = {&grpc_web_protocol, &connect_protocol,
                                                           NULL};
    const struct http_field field = {"content-type", type};

    return rpc_find(protocols,
                    &(struct request){.method = method, .headers = &field, .header_count = 1},
                    false);
}

TEST(calls_are_told_by_their_type)
{
    assert_ptr_equal(protocol("POST", "application/grpc-web"), &grpc_web_protocol);
    assert_ptr_equal(protocol("POST", "Application/gRPC-Web+Proto; x=y"), &grpc_web_protocol);
    assert_ptr_equal(protocol("POST", "application/proto"), &connect_protocol);
    assert_null(protocol("POST", "application/grpc"));
    assert_null(protocol("POST", "application/grpc-web+json"));
    assert_null(protocol("POST", "application/json"));
    assert_null(protocol("GET", "application/proto"));
}

static void check_body(const struct reply *reply, const char *body, size_t len)
{
    assert_int_equal(reply->status, 200);
    assert_string_equal(reply->content_type, "application/grpc-web+proto");
    assert_null(reply->call);
    assert_int_equal(reply->body.len, len);
    assert_memory_equal(reply->body.data, body, len);
}

static const struct request request;

TEST(web_trailers_follow_the_message)
{
    static const char body[] = "\0\0\0\0\3abc\x80\0\0\0\x10grpc-status: 0\r\n";
    static const char no_body[] = "\0\0\0\0\0\x80\0\0\0\x10grpc-status: 0\r\n";
    CLEANUP(reply_done) struct reply reply = reply_text(200, "application/grpc", "abc");
    CLEANUP(reply_done) struct reply empty = reply_text(200, "application/grpc", "");

    reply.body.max = reply.body.len; /* as a handler makes it */
    grpc_web_protocol.close(&request, &reply);
    check_body(&reply, body, sizeof(body) - 1);
    grpc_web_protocol.close(&request, &empty);
    check_body(&empty, no_body, sizeof(no_body) - 1);
}

TEST(web_errors_are_trailers_alone)
{
    static const char body[] = "\x80\0\0\0\x2egrpc-status: 3\r\ngrpc-message: 100%25 \"wrong\"\r\n";
    struct error err;

    error_set(&err, ERROR_BAD_REQUEST, "100%% \"wrong\"");
    CLEANUP(reply_done) struct reply reply = reply_error(&err);
    grpc_web_protocol.close(&request, &reply);
    check_body(&reply, body, sizeof(body) - 1);
}

/* The longest message, every byte of it as three. */
TEST(web_trailers_have_a_bound)
{
    struct error err = {.code = ERROR_TOO_LARGE};

    memset(err.message, '\n', sizeof(err.message) - 1);
    CLEANUP(reply_done) struct reply reply = reply_error(&err);
    grpc_web_protocol.close(&request, &reply);
    size_t len = (size_t)reply.body.data[3] << 8 | reply.body.data[4];
    assert_int_equal(len, reply.body.len - REPLY_PREFIX_LEN);
    assert_memory_equal(reply.body.data + reply.body.len - 5, "%0A\r\n", 5);
}

TEST(connect_messages_are_bare)
{
    CLEANUP(reply_done) struct reply reply = reply_text(200, "application/grpc", "abc");

    connect_protocol.close(NULL, &reply);
    assert_int_equal(reply.status, 200);
    assert_string_equal(reply.content_type, "application/proto");
    assert_int_equal(reply.body.len, 3);
}

TEST(connect_errors_are_json)
{
    static const struct {
        enum error_code code;
        int status;
        const char *body; /* NULL: what is public says enough */
    } cases[] = {
        {ERROR_BAD_REQUEST, 400, "{\"code\":\"invalid_argument\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_BAD_IMAGE, 400, "{\"code\":\"invalid_argument\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_UNAUTHORIZED, 401, "{\"code\":\"unauthenticated\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_FORBIDDEN, 403, "{\"code\":\"permission_denied\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_NOT_FOUND, 404, "{\"code\":\"not_found\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_CONFLICT, 409, "{\"code\":\"already_exists\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_TOO_LARGE, 429, "{\"code\":\"resource_exhausted\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_RANGE, 400, "{\"code\":\"out_of_range\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_NOT_IMPLEMENTED, 501, "{\"code\":\"unimplemented\",\"message\":\"a \\\"b\\\"\"}\n"},
        {ERROR_DEADLINE, 504, NULL},
        {ERROR_OVERLOADED, 503, NULL},
        {ERROR_INTERNAL, 500, NULL},
        {ERROR_CONFIG, 500, NULL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err, oom;
        error_set(&err, cases[i].code, "a \"b\"");
        CLEANUP(reply_done) struct reply reply = reply_error(&err);
        connect_protocol.close(NULL, &reply);
        assert_int_equal(reply.status, cases[i].status);
        assert_string_equal(reply.content_type, "application/json");
        const char *body = buffer_cstr(&reply.body, &oom);
        if (cases[i].body != NULL)
            assert_string_equal(body, cases[i].body);
        else
            assert_null(strstr(body, "a \\\"b"));
    }
}

static bool timeout(const char *text, const char *version, int64_t *ret)
{
    const struct http_field fields[] = {{"connect-timeout-ms", text},
                                        {"connect-protocol-version", version}};
    struct error err;

    bool ok = connect_protocol.timeout_ms(&(struct request){.headers = fields, .header_count = 2},
                                          ret, &err);
    assert_true(ok || err.code == ERROR_BAD_REQUEST);
    return ok;
}

TEST(connect_timeouts_are_milliseconds)
{
    static const char *const bad[] = {
        "", "-1", "1.5", "12345678901", "5m", " 5", "99999999999999999999"};
    struct error err;
    int64_t ms;

    assert_true(timeout("5", "1", &ms));
    assert_int_equal(ms, 5);
    assert_true(timeout("9999999999", "1", &ms));
    assert_int_equal(ms, INT64_C(9999999999));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(timeout(bad[i], "1", &ms));
    assert_false(timeout("5", "2", &ms));
    assert_true(connect_protocol.timeout_ms(&(struct request){0}, &ms, &err));
    assert_int_equal(ms, INT64_MAX);
}

TEST_MAIN(NULL, NULL)
