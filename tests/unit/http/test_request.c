#include "../test_cases.h"
#include "http/request.h"

TEST(fields_are_looked_up)
{
    const struct http_field headers[] = {{"Accept", "a"}, {"X-Twice", "1"}, {"x-twice", "2"}};
    const struct http_field query[] = {{"width", ""}, {"Width", "3"}, {"width", "4"}};
    const struct request req = {
        .headers = headers, .header_count = 3, .query = query, .query_count = 3};

    assert_string_equal(request_header(&req, "ACCEPT"), "a");
    assert_string_equal(request_header(&req, "X-TWICE"), "1");
    assert_null(request_header(&req, "Accep"));
    assert_string_equal(request_only_header(&req, "accept"), "a");
    assert_null(request_only_header(&req, "X-Twice"));
    assert_null(request_only_header(&req, "X-None"));
    assert_string_equal(request_query(&req, "width"), "");
    assert_string_equal(request_query(&req, "Width"), "3");
    assert_null(request_query(&req, "WIDTH"));
    assert_null(request_query(&(struct request){0}, "width"));
}

TEST(the_address_of_a_client)
{
    static const struct {
        const char *forwarded, *address;
    } cases[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"10.0.0.1, 192.0.2.1", "192.0.2.1"},
        {"192.0.2.1:1234", "192.0.2.1"},
        {"10.0.0.1:80 , 192.0.2.1:1234", "192.0.2.1"},
        {"2001:db8::1", "2001:db8::1"},
        {"::1", "::1"},
        {"[2001:db8::1]", "2001:db8::1"},
        {"[2001:db8::1]:1234", "2001:db8::1"},
        {"[2001:0db8:1111:2222:3333:4444:255.255.255.255]:65535",
         "2001:0db8:1111:2222:3333:4444:255.255.255.255"},
        {"[", "["},
        {"[]", "[]"},
        {":", ":"}, /* none: as it is */
        {"unknown", "unknown"},
        {"", "peer"},
        {"192.0.2.1, ", "peer"},
    };
    char address[PEER_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct http_field header = {"x-forwarded-for", cases[i].forwarded};
        request_client_address(
            &(struct request){.headers = &header, .header_count = 1, .peer = "peer"}, 1, address);
        assert_string_equal(address, cases[i].address);
    }
}

TEST(media_types)
{
    static const struct {
        const char *header, *type;
    } cases[] = {
        {"image/jpeg", "image/jpeg"},
        {"Image/JPEG; q=1", "image/jpeg"},
        {"image/jpeg;q=1", "image/jpeg"},
        {"image/jpeg\t; q=1", "image/jpeg"},
        {"", ""},
        {";", ""},
        {" image/jpeg", ""},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxx"
         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
         ""},
    };
    char type[MEDIA_TYPE_MAX];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct http_field header = {"content-type", cases[i].header};
        request_media_type(&(struct request){.headers = &header, .header_count = 1}, type);
        assert_string_equal(type, cases[i].type);
    }
    request_media_type(&(struct request){0}, type);
    assert_string_equal(type, "");
}

TEST(a_page_is_for_browsers)
{
    static const struct {
        const char *accept;
        bool html;
    } cases[] = {
        {"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", true},
        {"text/html", true},
        {"TEXT/HTML;q=0.5", true},
        {"application/json;q=0.2 ,\ttext/html ; q=0.3", true},
        {"", false},
        {"*/*", false},
        {"text/*", false},
        {"text/html;q=0", false},
        {"text/html;q=", false},
        {"application/json, text/html", false},
        {"application/json, text/html;q=0.9, */*;q=0.1", false},
        {"text/htmlx, xtext/html", false},
        {",, ,", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct http_field header = {"accept", cases[i].accept};
        if (request_prefers_html(&(struct request){.headers = &header, .header_count = 1}) !=
            cases[i].html)
            fail_msg("%s", cases[i].accept);
    }
    assert_false(request_prefers_html(&(struct request){0}));
}

TEST(request_ids)
{
    char longest[REQUEST_ID_MAX + 2];

    memset(longest, 'a', sizeof(longest));
    longest[REQUEST_ID_MAX + 1] = '\0';
    assert_false(request_id_is_valid(longest));
    longest[REQUEST_ID_MAX] = '\0';
    assert_true(request_id_is_valid(longest));
    assert_true(request_id_is_valid("AZaz09._-"));
    assert_false(request_id_is_valid(""));
    for (int c = 1; c < 256; c++) {
        const char id[] = {'a', (char)c, '\0'};
        bool allowed = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       c == '.' || c == '_' || c == '-';
        assert_int_equal(request_id_is_valid(id), allowed);
    }
}

TEST(traceparents)
{
    static const struct {
        const char *value;
        bool valid;
    } cases[] = {
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true},
        {"00-00000000000000000000000000000001-0000000000000001-ff", true},
        {"00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
        {"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
        {"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", false},
        {"00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01", false},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g", false},
        {"", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(traceparent_is_valid(cases[i].value), cases[i].valid);
}

TEST(framing)
{
    static const struct {
        const char *what;
        bool http_1_0, ok;
        size_t count;
        struct http_field headers[2];
    } cases[] = {
        {"none", false, true, 0, {{0}}},
        {"length", false, true, 1, {{"Content-Length", "0"}}},
        {"length on 1.0", true, true, 1, {{"Content-Length", "7"}}},
        {"chunked", false, true, 1, {{"Transfer-Encoding", "chunked"}}},
        {"case", false, true, 1, {{"transfer-encoding", "CHUNKED"}}},
        {"other repeats", false, true, 2, {{"Accept", "a"}, {"Accept", "b"}}},
        {"both", false, false, 2, {{"Content-Length", "3"}, {"Transfer-Encoding", "chunked"}}},
        {"both, turned",
         false,
         false,
         2,
         {{"transfer-encoding", "chunked"}, {"content-length", "3"}}},
        {"two lengths", false, false, 2, {{"Content-Length", "3"}, {"Content-Length", "3"}}},
        {"two lengths, case", false, false, 2, {{"Content-Length", "3"}, {"CONTENT-LENGTH", "4"}}},
        {"two hosts", false, false, 1, {{"host", "x"}}},
        {"two types", false, false, 2, {{"Content-Type", "a"}, {"Content-type", "a"}}},
        {"two encodings",
         false,
         false,
         2,
         {{"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}}},
        {"list of lengths", false, false, 1, {{"Content-Length", "3, 3"}}},
        {"plus", false, false, 1, {{"Content-Length", "+3"}}},
        {"minus", false, false, 1, {{"Content-Length", "-3"}}},
        {"minus nothing", false, false, 1, {{"Content-Length", "-0"}}},
        {"hex", false, false, 1, {{"Content-Length", "0x3"}}},
        {"no length", false, false, 1, {{"Content-Length", ""}}},
        {"too long", false, false, 1, {{"Content-Length", "99999999999999999999"}}},
        {"gzip", false, false, 1, {{"Transfer-Encoding", "gzip, chunked"}}},
        {"identity", false, false, 1, {{"Transfer-Encoding", "identity"}}},
        {"empty encoding", false, false, 1, {{"Transfer-Encoding", ""}}},
        {"tab", false, false, 1, {{"Transfer-Encoding", "\tchunked"}}},
        {"chunked on 1.0", true, false, 1, {{"Transfer-Encoding", "chunked"}}},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_field headers[3] = {{"Host", "x"}};
        memcpy(headers + 1, cases[i].headers, sizeof(cases[i].headers));
        const struct request req = {.headers = headers, .header_count = cases[i].count + 1};
        struct error err = {0};
        int64_t length;
        bool ok = request_framing_check(&req, cases[i].http_1_0, &length, &err);
        if (ok != cases[i].ok)
            fail_msg("%s", cases[i].what);
        assert_int_equal(err.code, ok ? ERROR_NONE : ERROR_BAD_REQUEST);
    }

    const struct request no_host = {0};
    struct error err = {0};
    int64_t length;
    assert_true(request_framing_check(&no_host, true, &length, &err));
    assert_fails(err, ERROR_BAD_REQUEST, request_framing_check(&no_host, false, &length, &err));
}

TEST(etags_of_all_lines)
{
    const struct http_field headers[] = {
        {"If-None-Match", "\"a\", W/\"b\""}, {"if-none-match", "\"c\""}, {"If-Match", "\"d\""}};
    const struct request req = {.headers = headers, .header_count = ARRAY_SIZE(headers)};
    const struct request any = {.headers = &(struct http_field){"If-None-Match", "*"},
                                .header_count = 1};

    assert_true(request_has_etag(&req, "a"));
    assert_true(request_has_etag(&req, "b"));
    assert_true(request_has_etag(&req, "c"));
    assert_false(request_has_etag(&req, "d"));
    assert_true(request_has_etag(&any, "d"));
    assert_false(request_has_etag(&(struct request){0}, "a"));
}

TEST(ranges)
{
    static const struct {
        const char *header;
        uint64_t size;
        enum range_kind kind;
        uint64_t first, last;
    } cases[] = {
        {NULL, 10, RANGE_NONE, 0, 0},
        {"", 10, RANGE_NONE, 0, 0},
        {"bytes=0-0", 10, RANGE_ONE, 0, 0},
        {"bytes=0-9", 10, RANGE_ONE, 0, 9},
        {"BYTES=2-5", 10, RANGE_ONE, 2, 5},
        {"bytes=2-", 10, RANGE_ONE, 2, 9},
        {"bytes=9-100", 10, RANGE_ONE, 9, 9},
        {"bytes=-1", 10, RANGE_ONE, 9, 9},
        {"bytes=-10", 10, RANGE_ONE, 0, 9},
        {"bytes=-11", 10, RANGE_ONE, 0, 9},
        {"bytes=0-9223372036854775807", 10, RANGE_ONE, 0, 9},
        {"bytes=10-", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=10-12", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 10, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=0-", 0, RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", 0, RANGE_UNSATISFIABLE, 0, 0},
        /* what is not understood is answered whole */
        {"bytes=5-2", 10, RANGE_NONE, 0, 0},
        {"bytes=0-1,3-4", 10, RANGE_NONE, 0, 0},
        {"bytes=-1,0-1", 10, RANGE_NONE, 0, 0},
        {"bytes=", 10, RANGE_NONE, 0, 0},
        {"bytes=-", 10, RANGE_NONE, 0, 0},
        {"bytes=a-b", 10, RANGE_NONE, 0, 0},
        {"bytes=1-2x", 10, RANGE_NONE, 0, 0},
        {"bytes= 1-2", 10, RANGE_NONE, 0, 0},
        {"bytes=1", 10, RANGE_NONE, 0, 0},
        {"bytes=+1-2", 10, RANGE_NONE, 0, 0},
        {"bytes=99999999999999999999-", 10, RANGE_NONE, 0, 0},
        {"lines=1-2", 10, RANGE_NONE, 0, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct byte_range range = range_parse(cases[i].header, cases[i].size);
        if (range.kind != cases[i].kind || range.first != cases[i].first ||
            range.last != cases[i].last)
            fail_msg("%s of %d", cases[i].header, (int)cases[i].size);
    }
}

TEST(etags)
{
    static const struct {
        const char *header;
        bool matches;
    } cases[] = {
        {NULL, false},
        {"", false},
        {"*", true},
        {"\"abc\"", true},
        {"W/\"abc\"", true},
        {"\"x\", \"abc\"", true},
        {"\"x\",W/\"abc\",\"y\"", true},
        {"\"abcd\"", false},
        {"\"ab\"", false},
        {"abc", false},
        {"\"abc", false},
        {"\"x\"abc\"y\"", false},
        {"\"\"", false},
        {"**", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (etag_matches(cases[i].header, "abc") != cases[i].matches)
            fail_msg("%s", cases[i].header);
}

TEST_MAIN(NULL, NULL)
