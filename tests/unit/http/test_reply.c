#include "../test_cases.h"
#include "http/reply.h"

static json_t *problem_of(enum error_code code, const char *message)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(8192);
    struct error err = {0}, oom = {0};

    error_set(&err, code, "%s", message);
    assert_true(reply_error_body(ERROR_FORM_PROBLEM, &err, "the-id", &text, &oom));
    assert_int_equal(text.data[text.len - 1], '\n');
    json_t *json = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    assert_int_equal(json_object_size(json), 5);
    assert_string_equal(json_string_value(json_object_get(json, "request_id")), "the-id");
    assert_int_equal(json_integer_value(json_object_get(json, "status")), error_http_status(code));
    assert_string_equal(json_string_value(json_object_get(json, "title")), error_title(code));
    return json;
}

static void assert_detail(enum error_code code, const char *message, const char *detail)
{
    json_t *json = problem_of(code, message);

    assert_string_equal(json_string_value(json_object_get(json, "detail")), detail);
    json_decref(json);
}

TEST(details_of_4xx_are_shown)
{
    char full[sizeof(((struct error *)NULL)->message)];

    assert_detail(ERROR_BAD_REQUEST, "width: not a number", "width: not a number");
    assert_detail(ERROR_NOT_FOUND, "\"quoted\" \\ </script>\r\n\t\x01",
                  "\"quoted\" \\ </script>\r\n\t\x01");
    assert_detail(ERROR_BAD_REQUEST,
                  "Gr\xc3\xbc\xc3\x9f"
                  "e \xf0\x9f\x93\xb7",
                  "Gr\xc3\xbc\xc3\x9f"
                  "e \xf0\x9f\x93\xb7");
    /* not UTF-8, cut short, a surrogate, overlong */
    assert_detail(ERROR_BAD_REQUEST,
                  "a\xff"
                  "b",
                  "a?b");
    assert_detail(ERROR_BAD_REQUEST, "a\xc3", "a?");
    assert_detail(ERROR_BAD_REQUEST, "\xed\xa0\x80z", "???z");
    assert_detail(ERROR_BAD_REQUEST, "\xc0\xafz", "??z");
    memset(full, 'x', sizeof(full) - 1);
    full[sizeof(full) - 1] = '\0';
    assert_detail(ERROR_TOO_LARGE, full, full);
}

TEST(details_of_5xx_are_not)
{
    static const enum error_code codes[] = {ERROR_INTERNAL,    ERROR_OVERLOADED,    ERROR_DEADLINE,
                                            ERROR_UNAVAILABLE, ERROR_SHUTTING_DOWN, ERROR_CONFIG};

    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        json_t *json = problem_of(codes[i], "/srv/secret: key AKIA123");
        const char *detail = json_string_value(json_object_get(json, "detail"));
        assert_true(strlen(detail) > 10);
        assert_null(strstr(detail, "secret"));
        json_decref(json);
    }
}

TEST(problem_on_the_wire)
{
    static const struct {
        enum error_code code;
        const char *start;
        bool retry;
    } cases[] = {
        {ERROR_TOO_SLOW, "HTTP/1.1 408 Request Timeout\r\n", false},
        {ERROR_TOO_LARGE, "HTTP/1.1 413 Content Too Large\r\n", false},
        {ERROR_OVERLOADED, "HTTP/1.1 503 Service Unavailable\r\n", true},
        {ERROR_SHUTTING_DOWN, "HTTP/1.1 503 Service Unavailable\r\n", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(8192);
        struct error err, oom = {0};
        error_set(&err, cases[i].code, "because");
        CLEANUP(reply_done) struct reply reply = reply_error(&err);
        assert_true(reply_error_body(ERROR_FORM_PROBLEM, &err, "the-id", &reply.body, &oom));
        assert_true(reply_on_the_wire(&reply, "the-id", "X-More: 1\r\n", &out, &oom));
        const char *text = buffer_cstr(&out, &oom);
        assert_memory_equal(text, cases[i].start, strlen(cases[i].start));
        const char *body = strstr(text, "\r\n\r\n") + 4;
        char length[64];
        snprintf(length, sizeof(length), "\r\nContent-Length: %zu\r\n", strlen(body));
        assert_non_null(strstr(text, length));
        assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
        assert_non_null(strstr(text, "\r\nX-More: 1\r\n"));
        assert_non_null(strstr(text, "\r\nX-Request-Id: the-id\r\n"));
        assert_non_null(strstr(text, "\r\nContent-Type: application/problem+json\r\n"));
        assert_int_equal(strstr(text, "\r\nRetry-After: ") != NULL, cases[i].retry);
    }
}

TEST(replies_own_their_body)
{
    struct error err = {0};
    struct buffer text = BUFFER_MAX(100);

    struct reply json = reply_json(201, json_pack("{s:f}", "confidence", 0.93));
    assert_int_equal(json.status, 201);
    assert_int_equal(json.body.len, strlen("{\"confidence\":0.93}\n"));
    assert_memory_equal(json.body.data, "{\"confidence\":0.93}\n", json.body.len);
    reply_done(&json);

    assert_true(buffer_append_str(&text, "abc", &err));
    struct reply buffer = reply_buffer(200, "text/plain", &text);
    assert_null(text.data);
    assert_int_equal(buffer.body.len, 3);
    reply_done(&buffer);
    assert_null(buffer.body.data);
    reply_done(&buffer);

    struct reply nothing = reply_json(200, NULL);
    assert_int_equal(nothing.status, 503);
    assert_int_equal(nothing.error.code, ERROR_OVERLOADED);
    reply_done(&nothing);
}

TEST(headers_are_bounded)
{
    struct reply reply = reply_empty(200);

    for (int i = 0; i < REPLY_HEADERS_MAX + 3; i++)
        reply_add_header(&reply, "X", "%0*d", 2 * REPLY_HEADER_VALUE_MAX, i);
    assert_int_equal(reply.header_count, REPLY_HEADERS_MAX);
    assert_int_equal(strlen(reply.headers[0].value), REPLY_HEADER_VALUE_MAX - 1);
    reply_done(&reply);
}

TEST(every_503_says_when_to_come_back)
{
    for (int code = ERROR_BAD_REQUEST; code <= ERROR_CONFIG; code++) {
        const struct error err = {.code = (enum error_code)code};
        struct reply reply = reply_error(&err);
        assert_int_equal(reply.status, error_http_status(err.code));
        assert_int_equal(reply.header_count, reply.status == 503 ? 1 : 0);
        if (reply.header_count == 1)
            assert_string_equal(reply.headers[0].name, "Retry-After");
        reply_done(&reply);
    }
}

TEST_MAIN(NULL, NULL)
