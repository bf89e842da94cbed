#include "../test_cases.h"
#include "http/cors.h"

/* The header lines for a request from `origin` (NULL: without the header). */
static const char *lines(const char *origins, const char *origin)
{
    static char out[CORS_LINES_MAX];
    const struct http_field field = {.name = "oRiGiN", .value = origin};
    const struct request req = {.headers = &field, .header_count = origin != NULL ? 1 : 0};

    cors_lines(origins, &req, out);
    return out;
}

#define EXPOSE                                                                                     \
    "Access-Control-Expose-Headers: "                                                              \
    "Content-Range, ETag, Grpc-Message, Grpc-Status, Retry-After, Server-Timing, X-Request-Id\r\n"
#define ALLOW(origin) "Access-Control-Allow-Origin: " origin "\r\n" EXPOSE
#define VARY "Vary: Origin\r\n"

TEST(only_configured_origins_are_allowed)
{
    const char *two = "https://a.example, https://b.example";

    assert_string_equal(lines("", "https://a.example"), "");
    assert_string_equal(lines("*", "https://a.example"), ALLOW("*"));
    assert_string_equal(lines("*", NULL), "");
    assert_string_equal(lines(two, "https://a.example"), VARY ALLOW("https://a.example"));
    assert_string_equal(lines(two, "https://b.example"), VARY ALLOW("https://b.example"));
    assert_string_equal(lines(two, "HTTPS://B.example"), VARY ALLOW("HTTPS://B.example"));
    assert_string_equal(lines(two, NULL), VARY);
    assert_string_equal(lines(two, ""), VARY);
    assert_string_equal(lines(two, "null"), VARY);
    assert_string_equal(lines(two, two), VARY);
    assert_string_equal(lines(two, "https://a.exampl"), VARY);
    assert_string_equal(lines(two, "https://a.example.evil"), VARY);
}

TEST(the_longest_origin_fits)
{
    char origin[REPLY_HEADER_VALUE_MAX + 1];

    memset(origin, 'a', sizeof(origin));
    origin[REPLY_HEADER_VALUE_MAX] = '\0';
    assert_string_equal(lines(origin, origin), VARY);
    origin[REPLY_HEADER_VALUE_MAX - 1] = '\0';
    const char *out = lines(origin, origin);
    assert_non_null(strstr(out, origin));
    assert_string_equal(out + strlen(out) - strlen(EXPOSE), EXPOSE);
}

/* The value of a reply's header, or NULL. */
static const char *header(const struct reply *reply, const char *name)
{
    for (size_t i = 0; i < reply->header_count; i++)
        if (strcmp(reply->headers[i].name, name) == 0)
            return reply->headers[i].value;
    return NULL;
}

TEST(preflights)
{
    struct reply reply = cors_preflight("*", "POST, OPTIONS");
    assert_int_equal(reply.status, 204);
    assert_string_equal(header(&reply, "Allow"), "POST, OPTIONS");
    assert_string_equal(header(&reply, "Access-Control-Allow-Methods"), "POST, OPTIONS");
    assert_string_equal(header(&reply, "Access-Control-Allow-Headers"),
                        "Authorization, Cache-Control, Connect-Protocol-Version, "
                        "Connect-Timeout-Ms, Content-Encoding, Content-Type, Grpc-Timeout, "
                        "If-None-Match, If-Range, Range, X-Grpc-Web, X-Request-Id, "
                        "X-Requested-With, X-User-Agent, baggage, traceparent, tracestate");
    assert_non_null(header(&reply, "Access-Control-Max-Age"));

    reply = cors_preflight("", "POST, OPTIONS");
    assert_int_equal(reply.status, 204);
    assert_int_equal(reply.header_count, 1);
    assert_string_equal(header(&reply, "Allow"), "POST, OPTIONS");

    reply = cors_preflight("*", "");
    assert_int_equal(reply.status, 404);
    assert_int_equal(reply.error.code, ERROR_NOT_FOUND);
}

TEST_MAIN(NULL, NULL)
