/* A line of Content-Encoding, a line of Accept-Encoding, and a body. */
#include "http/encoding.h"
#include "fuzz.h"

enum { UNPACKED_MAX = 1 << 16, BUDGET = 1 << 18 };

/* What was unpacked, packed as the client wants it, unpacks to the same. */
static void check_round_trip(struct bytes plain, enum coding coding)
{
    struct buffer copy = BUFFER_MAX(UNPACKED_MAX);
    struct byte_budget budget = {.max = BUDGET};
    struct decoded_body again = {0};
    struct error err = {0};

    FUZZ_CHECK(buffer_append(&copy, plain.data, plain.len, &err));
    struct reply reply = reply_buffer(200, "text/plain", &copy);
    FUZZ_CHECK(reply_encode(&reply, coding, &err));
    FUZZ_CHECK(reply.header_count == (coding != CODING_IDENTITY));
    const struct http_field header = {"Content-Encoding", reply.headers[0].value};
    const struct request req = {.headers = &header,
                                .header_count = reply.header_count,
                                .body = buffer_view(&reply.body),
                                .context = {.budget = &budget}};
    FUZZ_CHECK(body_decode(&req, UNPACKED_MAX, &again, &err));
    FUZZ_CHECK(bytes_equal(again.bytes, plain));
    decoded_body_done(&again);
    reply_done(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    CLEANUP_FREE char *sent = fuzz_line(&in);
    CLEANUP_FREE char *wanted = fuzz_line(&in);
    const struct http_field headers[] = {{"Content-Encoding", sent}, {"Accept-Encoding", wanted}};
    struct byte_budget budget = {.max = BUDGET};
    const struct request req = {
        .headers = headers, .header_count = 2, .body = in, .context = {.budget = &budget}};
    struct decoded_body body = {0};
    struct error err = {0};

    if (body_decode(&req, UNPACKED_MAX, &body, &err)) {
        bool plain = encoding_is_identity(&req);
        FUZZ_CHECK(plain || body.bytes.len <= UNPACKED_MAX);
        FUZZ_CHECK(plain == (body.bytes.data == in.data) || in.len == 0);
        FUZZ_CHECK(body.charged >= (plain ? 0 : (int64_t)body.bytes.len));
        FUZZ_CHECK(atomic_load(&budget.used) == body.charged);
        if (body.bytes.len <= UNPACKED_MAX)
            check_round_trip(body.bytes, encoding_accepted(&req));
        decoded_body_done(&body);
    } else {
        FUZZ_CHECK(err.code == ERROR_BAD_REQUEST || err.code == ERROR_TOO_LARGE ||
                   err.code == ERROR_UNSUPPORTED_MEDIA || err.code == ERROR_OVERLOADED);
    }
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
    return 0;
}
