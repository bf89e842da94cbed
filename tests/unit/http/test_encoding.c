#include "../test_cases.h"
#include "http/encoding.h"

#include "base/strings.h"

enum { BUDGET = 4 << 20 };

/* "hello" by Python's gzip.compress(b"hello", mtime=0) and zlib.compress(b"hello"). */
static const uint8_t gzip_hello[] = {0x1f, 0x8b, 0x08, 0,    0,    0,    0,    0,    0x02,
                                     0xff, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x86,
                                     0xa6, 0x10, 0x36, 0x05, 0,    0,    0};
static const uint8_t zlib_hello[] = {0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9,
                                     0x07, 0x00, 0x06, 0x2c, 0x02, 0x15};

static bool decode(const char *coding, struct bytes body, size_t max, struct byte_budget *budget,
                   struct decoded_body *ret, struct error *err)
{
    const struct http_field header = {"content-encoding", coding};
    const struct request req = {.headers = &header,
                                .header_count = coding != NULL,
                                .body = body,
                                .context = {.budget = budget}};

    return body_decode(&req, max, ret, err);
}

#define BYTES(array) bytes_of(array, sizeof(array))

TEST(known_codings)
{
    const struct {
        const char *coding;
        struct bytes body;
    } cases[] = {
        {"gzip", BYTES(gzip_hello)},    {"X-GZIP", BYTES(gzip_hello)},
        {"Deflate", BYTES(zlib_hello)}, {"identity", bytes_of("hello", 5)},
        {NULL, bytes_of("hello", 5)},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct byte_budget budget = {.max = BUDGET};
        struct decoded_body body = {0};
        struct error err = {0};
        assert_true(decode(cases[i].coding, cases[i].body, 5, &budget, &body, &err));
        assert_true(bytes_equal(body.bytes, bytes_of("hello", 5)));
        assert_int_equal(budget.used > 0, i < 3);
        decoded_body_done(&body);
        assert_int_equal(budget.used, 0);
    }
}

TEST(what_is_refused)
{
    const struct {
        const char *coding;
        struct bytes body;
        size_t max;
        enum error_code code;
    } cases[] = {
        {"br", BYTES(gzip_hello), 5, ERROR_UNSUPPORTED_MEDIA},
        {"gzip, gzip", BYTES(gzip_hello), 5, ERROR_UNSUPPORTED_MEDIA},
        {"gzip", BYTES(gzip_hello), 4, ERROR_TOO_LARGE},
        {"gzip", BYTES(zlib_hello), 5, ERROR_BAD_REQUEST},
        {"deflate", BYTES(gzip_hello), 5, ERROR_BAD_REQUEST},
        {"gzip", bytes_of(gzip_hello, sizeof(gzip_hello) - 1), 5, ERROR_BAD_REQUEST},
        {"gzip", bytes_of(gzip_hello, 0), 5, ERROR_BAD_REQUEST},
        {"deflate", bytes_of("hello", 5), 5, ERROR_BAD_REQUEST},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct byte_budget budget = {.max = BUDGET};
        struct decoded_body body = {0};
        struct error err = {0};
        assert_false(decode(cases[i].coding, cases[i].body, cases[i].max, &budget, &body, &err));
        if (err.code != cases[i].code)
            fail_msg("case %zu: %s", i, err.message);
        assert_int_equal(budget.used, 0);
    }
}

TEST(two_codings_are_refused)
{
    const struct http_field headers[] = {{"Content-Encoding", "gzip"},
                                         {"Content-Encoding", "gzip"}};
    const struct request req = {.headers = headers, .header_count = 2};
    struct decoded_body body;
    struct error err = {0};

    assert_false(encoding_is_identity(&req));
    assert_fails(err, ERROR_UNSUPPORTED_MEDIA, body_decode(&req, 5, &body, &err));
}

static struct reply zeros(size_t len)
{
    struct buffer body = BUFFER_MAX(len);
    struct error err = {0};

    assert_true(buffer_reserve(&body, len, &err));
    memset(body.data, 0, len);
    body.len = len;
    return reply_buffer(200, "text/plain", &body);
}

/* A megabyte in a kilobyte: it costs no more memory than it may, and counts while it is held. */
TEST(bombs)
{
    const size_t len = 1 << 20;
    struct reply bomb = zeros(len);
    struct byte_budget budget = {.max = BUDGET}, small = {.max = 1 << 19};
    struct decoded_body body = {0};
    struct error err = {0};

    assert_true(reply_encode(&bomb, CODING_GZIP, &err));
    assert_string_equal(bomb.headers[0].value, "gzip");
    assert_true(bomb.body.len < len / 100);
    assert_fails(err, ERROR_TOO_LARGE,
                 decode("gzip", buffer_view(&bomb.body), len - 1, &budget, &body, &err));
    assert_int_equal(budget.used, 0);
    assert_fails(err, ERROR_OVERLOADED,
                 decode("gzip", buffer_view(&bomb.body), len, &small, &body, &err));
    assert_int_equal(small.used, 0);
    assert_true(decode("gzip", buffer_view(&bomb.body), len, &budget, &body, &err));
    assert_int_equal(body.bytes.len, len);
    assert_in_range(budget.used, len, len + (1 << 17));
    decoded_body_done(&body);
    assert_int_equal(budget.used, 0);
    reply_done(&bomb);
}

TEST(round_trips)
{
    const enum coding codings[] = {CODING_GZIP, CODING_DEFLATE};

    for (size_t i = 0; i < ARRAY_SIZE(codings); i++) {
        struct byte_budget budget = {.max = BUDGET};
        struct reply reply = reply_text(200, "text/plain", "some text");
        struct decoded_body body = {0};
        struct error err = {0};
        assert_true(reply_encode(&reply, codings[i], &err));
        assert_true(
            decode(reply.headers[0].value, buffer_view(&reply.body), 100, &budget, &body, &err));
        assert_true(bytes_equal(body.bytes, bytes_from_str("some text")));
        decoded_body_done(&body);
        reply_done(&reply);
    }
}

TEST(what_replies_may_be)
{
    static const struct {
        const char *accept;
        enum coding coding;
    } cases[] = {
        {NULL, CODING_IDENTITY},
        {"", CODING_IDENTITY},
        {"*", CODING_IDENTITY},
        {"br", CODING_IDENTITY},
        {"gzip", CODING_GZIP},
        {"deflate", CODING_DEFLATE},
        {"deflate, gzip", CODING_GZIP},
        {"gzip, deflate, br", CODING_GZIP},
        {"gzip;q=0, deflate;q=0.5", CODING_DEFLATE},
        {"gzip;q=0.000", CODING_IDENTITY},
        {"gzip; q=0.001", CODING_GZIP},
        {"br;q=0,GZIP", CODING_GZIP},
        {" ,, deflate", CODING_DEFLATE},
        {"gzippy", CODING_IDENTITY},
        {"gzip;q=0 , identity", CODING_IDENTITY},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct http_field header = {"accept-encoding", cases[i].accept};
        const struct request req = {.headers = &header, .header_count = cases[i].accept != NULL};
        if (encoding_accepted(&req) != cases[i].coding)
            fail_msg("%s", cases[i].accept);
    }
}

TEST_MAIN(NULL, NULL)
