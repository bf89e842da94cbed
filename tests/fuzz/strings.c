/* Base64, percent-encoding, hexadecimals, numbers, UTF-8: what is written is read again. */
#include "base/clock.h"
#include "fuzz.h"
#include "store/bucket/bucket.h"

#include <jansson.h>
#include <time.h>

enum { MOST = 65536 };

static void check_base64(struct bytes in, const char *text)
{
    CLEANUP(buffer_done) struct buffer coded = BUFFER_MAX(2 * MOST);
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(2 * MOST);
    struct error err = {0};

    FUZZ_CHECK(string_base64_encode(in, &coded, &err));
    const char *c = buffer_cstr(&coded, &err);
    FUZZ_CHECK(c != NULL && string_base64_decode(c, &plain, &err));
    FUZZ_CHECK(bytes_equal(buffer_view(&plain), in));
    plain.len = 0;
    if (!string_base64_decode(text, &plain, &err))
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
    else
        FUZZ_CHECK(plain.len <= strlen(text) / 4 * 3);
}

static void check_percent(const char *text)
{
    CLEANUP(buffer_done) struct buffer coded = BUFFER_MAX(4 * MOST);
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(4 * MOST);
    struct error err = {0};

    FUZZ_CHECK(string_percent_encode(text, "/", &coded, &err));
    const char *c = buffer_cstr(&coded, &err);
    FUZZ_CHECK(c != NULL && string_percent_decode(c, &plain, &err));
    FUZZ_CHECK(bytes_equal(buffer_view(&plain), bytes_from_str(text)));
    plain.len = 0;
    if (!string_percent_decode(text, &plain, &err))
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
    else
        FUZZ_CHECK(plain.len == 0 || memchr(plain.data, '\0', plain.len) == NULL);
}

/* Jansson takes UTF-8 and nothing else. */
static void check_utf8(struct bytes in)
{
    json_t *json = json_stringn(in.len > 0 ? (const char *)in.data : "", in.len);

    FUZZ_CHECK(string_is_utf8(in) == (json != NULL));
    json_decref(json);
}

static void check_numbers(const char *text)
{
    char again[32];
    int64_t n;

    if (!string_to_int64(text, INT64_MIN, INT64_MAX, &n))
        return;
    const char *digits = text + (*text == '-');
    digits += strspn(digits, "0");
    snprintf(again, sizeof(again), "%s%s%s", n < 0 ? "-" : "", *digits == '\0' ? "0" : "", digits);
    char expected[32];
    snprintf(expected, sizeof(expected), "%lld", (long long)n);
    FUZZ_CHECK(strcmp(again, expected) == 0);
}

static void check_dates(const char *text)
{
    char again[CLOCK_RFC3339_LEN];
    int64_t seconds = bucket_http_date(text);

    clock_rfc3339(seconds > INT64_MAX / 1000 ? INT64_MAX : seconds * 1000, again);
    FUZZ_CHECK(strlen(again) == strlen("2026-01-02T03:04:05.678Z"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size < MOST ? size : MOST);
    CLEANUP_FREE char *text = fuzz_text(in);

    check_base64(in, text);
    check_percent(text);
    check_utf8(in);
    check_numbers(text);
    check_dates(text);
    FUZZ_CHECK(string_equal_constant_time(text, text));
    FUZZ_CHECK(!string_equal_constant_time(text, "fuzz") == (strcmp(text, "fuzz") != 0));
    return 0;
}
