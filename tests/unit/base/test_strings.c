#include "../test_cases.h"
#include "base/strings.h"

TEST(hex)
{
    char out[2 * 4 + 1];

    string_hex(bytes_of("\x00\x0f\xa5\xff", 4), out);
    assert_string_equal(out, "000fa5ff");
    string_hex(bytes_of(NULL, 0), out);
    assert_string_equal(out, "");
}

TEST(sha256_hex)
{
    char text[70];

    memset(text, 'a', sizeof(text));
    text[64] = '\0';
    assert_true(string_is_sha256_hex(text));
    for (const char *bad = "gAF/ -\x80"; *bad != '\0'; bad++) {
        text[63] = *bad;
        assert_false(string_is_sha256_hex(text));
    }
    text[63] = '\0';
    assert_false(string_is_sha256_hex(text));
    memset(text, '0', 65);
    text[65] = '\0';
    assert_false(string_is_sha256_hex(text));
    assert_false(string_is_sha256_hex(""));
}

TEST(numbers)
{
    static const struct {
        const char *text;
        int64_t min, max;
        bool ok;
        int64_t value;
    } table[] = {
        {"0", 0, 10, true, 0},
        {"10", 0, 10, true, 10},
        {"11", 0, 10, false, 0},
        {"-1", 0, 10, false, 0},
        {"-5", -10, 10, true, -5},
        {"-11", -10, 10, false, 0},
        {"007", 0, 10, true, 7},
        {"-0", 0, 10, true, 0},
        {"9223372036854775807", INT64_MIN, INT64_MAX, true, INT64_MAX},
        {"9223372036854775808", INT64_MIN, INT64_MAX, false, 0},
        {"-9223372036854775808", INT64_MIN, INT64_MAX, true, INT64_MIN},
        {"-9223372036854775809", INT64_MIN, INT64_MAX, false, 0},
        {"99999999999999999999999", INT64_MIN, INT64_MAX, false, 0},
        {"", 0, 10, false, 0},
        {"-", -10, 10, false, 0},
        {"--1", -10, 10, false, 0},
        {"+1", 0, 10, false, 0},
        {" 1", 0, 10, false, 0},
        {"1 ", 0, 10, false, 0},
        {"1.0", 0, 10, false, 0},
        {"1e0", 0, 10, false, 0},
        {"0x1", 0, 10, false, 0},
        {"\xD9\xA1", 0, 10, false, 0}, /* a digit, but an Arabic one */
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        int64_t value = -77;
        bool ok = string_to_int64(table[i].text, table[i].min, table[i].max, &value);
        if (ok != table[i].ok || value != (ok ? table[i].value : -77))
            fail_msg("'%s': %d, %lld", table[i].text, ok, (long long)value);
    }
}

/* RFC 4648, section 10 */
TEST(base64)
{
    static const char *const table[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(100);
        CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(100);
        assert_true(buffer_append_str(&text, ">", &err) && buffer_append_str(&data, ">", &err));
        assert_true(string_base64_encode(bytes_from_str(table[i][0]), &text, &err));
        assert_string_equal(buffer_cstr(&text, &err) + 1, table[i][1]);
        assert_true(string_base64_decode(table[i][1], &data, &err));
        assert_string_equal(buffer_cstr(&data, &err) + 1, table[i][0]);
    }
}

TEST(base64_of_every_byte)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(1000);
    CLEANUP(buffer_done) struct buffer back = BUFFER_MAX(1000);
    uint8_t all[256];
    struct error err = {0};

    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (uint8_t)i;
    for (size_t len = 0; len <= sizeof(all); len++) {
        text.len = back.len = 0;
        assert_true(string_base64_encode(bytes_of(all, len), &text, &err));
        assert_true(string_base64_decode(buffer_cstr(&text, &err), &back, &err));
        assert_true(bytes_equal(buffer_view(&back), bytes_of(all, len)));
    }
}

TEST(base64_that_is_none)
{
    static const char *const table[] = {"Z",
                                        "Zg",
                                        "Zg=",
                                        "Zg===",
                                        "====",
                                        "=",
                                        "Z===",
                                        "=Zg=",
                                        "Zm=v",
                                        "Zg==Zg==",
                                        "Zm9v\n",
                                        " Zm9v",
                                        "Zm 9v",
                                        "Zm9-",
                                        "Zm9_",
                                        "Zm9v\x80"
                                        "abc",
                                        "Zm9vZm9"};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
        struct error err = {0};
        if (string_base64_decode(table[i], &out, &err) || err.code != ERROR_BAD_REQUEST)
            fail_msg("'%s' was decoded", table[i]);
        assert_int_equal(out.len, 0);
    }
}

TEST(base64_beyond_the_maximum)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(5);
    struct error err = {0};

    assert_fails(err, ERROR_TOO_LARGE, string_base64_encode(bytes_from_str("foobar"), &out, &err));
    assert_fails(err, ERROR_TOO_LARGE, string_base64_decode("Zm9vYmFy", &out, &err));
    assert_fails(err, ERROR_TOO_LARGE, string_base64_encode(bytes_of("", SIZE_MAX), &out, &err));
}

TEST(percent_encoding)
{
    static const char *const table[][3] = {
        {"", "", ""},
        {"AZaz09-._~", "", "AZaz09-._~"},
        {"a/b c", "", "a%2Fb%20c"},
        {"a/b c", "/", "a/b%20c"},
        {"100%", "", "100%25"},
        {"%41", "", "%2541"},
        {"\xC3\xA9\x01\x7F\xFF", "", "%C3%A9%01%7F%FF"},
        {"?#[]@!$&'()*+,;=:", "", "%3F%23%5B%5D%40%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A"},
    };
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
        CLEANUP(buffer_done) struct buffer back = BUFFER_MAX(100);
        assert_true(string_percent_encode(table[i][0], table[i][1], &out, &err));
        assert_string_equal(buffer_cstr(&out, &err), table[i][2]);
        assert_true(string_percent_decode(table[i][2], &back, &err));
        assert_string_equal(buffer_cstr(&back, &err), table[i][0]);
    }
}

TEST(percent_decoding)
{
    static const char *const good[][2] = {
        {"%41%61%4a%4A", "AaJJ"}, {"%2541", "%41"}, {"a+b", "a+b"}, {"%2e%2E%2f", "../"}};
    static const char *const bad[] = {"%",   "%4",    "%%",  "%G1", "%1G",   "a%",
                                      "%00", "a%00b", "%-1", "% 1", "%4\xFF"};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
        assert_true(string_percent_decode(good[i][0], &out, &err));
        assert_string_equal(buffer_cstr(&out, &err), good[i][1]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(100);
        if (string_percent_decode(bad[i], &out, &err))
            fail_msg("'%s' was decoded", bad[i]);
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
    }
    CLEANUP(buffer_done) struct buffer small = BUFFER_MAX(2);
    assert_fails(err, ERROR_TOO_LARGE, string_percent_decode("abc", &small, &err));
    assert_fails(err, ERROR_TOO_LARGE, string_percent_encode("/", "", &small, &err));
}

TEST(utf8)
{
#define TEXT(s)                                                                                    \
    {                                                                                              \
        s, sizeof(s) - 1                                                                           \
    }
    static const struct {
        const char *data;
        size_t len;
    } good[] = {TEXT(""),
                TEXT("ascii"),
                TEXT("a\0b"),
                TEXT("\x7F"),
                TEXT("\xC2\x80"),
                TEXT("\xDF\xBF"),
                TEXT("\xE0\xA0\x80"),
                TEXT("\xED\x9F\xBF"),
                TEXT("\xEE\x80\x80"),
                TEXT("\xEF\xBF\xBF"),
                TEXT("\xF0\x90\x80\x80"),
                TEXT("\xF4\x8F\xBF\xBF"),
                TEXT("x\xE2\x82\xACy\xF0\x9F\x93\xB7z")},
      bad[] = {TEXT("\x80"),
               TEXT("\xBF"),
               TEXT("a\x80"),
               TEXT("\xC0\x80"), /* overlong */
               TEXT("\xC1\xBF"),
               TEXT("\xE0\x9F\xBF"),
               TEXT("\xF0\x8F\xBF\xBF"),
               TEXT("\xED\xA0\x80"), /* surrogates */
               TEXT("\xED\xBF\xBF"),
               TEXT("\xF4\x90\x80\x80"), /* beyond U+10FFFF */
               TEXT("\xF5\x80\x80\x80"),
               TEXT("\xFE"),
               TEXT("\xFF"),
               TEXT("\xC2"), /* cut */
               TEXT("\xE2\x82"),
               TEXT("\xF0\x9F\x93"),
               TEXT("\xC2"
                    "a"),
               TEXT("\xE2\x82"
                    "a"),
               TEXT("\xF0\x9F\x93"
                    "a"),
               TEXT("\xE2\x28\xAC"),
               TEXT("ok\xE2\x82\xAC\xE2")};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (!string_is_utf8(bytes_of(good[i].data, good[i].len)))
            fail_msg("good %zu", i);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (string_is_utf8(bytes_of(bad[i].data, bad[i].len)))
            fail_msg("bad %zu", i);
    /* what begins no character is no first byte, however many more follow */
    for (unsigned first = 0x80; first <= 0xFF; first = first == 0xC1 ? 0xF5 : first + 1) {
        uint8_t run[20];
        memset(run, 0x80, sizeof(run));
        run[0] = (uint8_t)first;
        for (size_t len = 1; len <= sizeof(run); len++)
            assert_false(string_is_utf8(bytes_of(run, len)));
    }
}

TEST(prefixes_and_suffixes)
{
    assert_true(string_starts_with("file:///x", "file:"));
    assert_true(string_starts_with("x", ""));
    assert_false(string_starts_with("fil", "file:"));
    assert_false(string_starts_with("", "x"));
    assert_true(string_ends_with("a.json", ".json"));
    assert_true(string_ends_with(".json", ".json"));
    assert_true(string_ends_with("", ""));
    assert_false(string_ends_with("json", ".json"));
    assert_false(string_ends_with("a.json.", ".json"));
}

TEST(lists)
{
    assert_true(string_list_has("one, two,three", "two", false));
    assert_true(string_list_has(" ,one", "ONE", true));
    assert_false(string_list_has("one", "ONE", false));
    assert_false(string_list_has("one, two", "tw", false));
    assert_false(string_list_has("one, two", "two, three", false));
    assert_false(string_list_has(", one", "", true));
}

TEST(secrets)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } table[] = {
        {"", "", true},
        {"secret", "secret", true},
        {"secret", "secreT", false},
        {"Secret", "secret", false},
        {"secret", "secret1", false},
        {"secret1", "secret", false},
        {"", "x", false},
        {"x", "", false},
        {"\xFF", "\x7F", false},
        {"long and longer", "l", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        assert_int_equal(string_equal_constant_time(table[i].a, table[i].b), table[i].equal);
}

TEST(uuids)
{
    char a[UUID_LEN + 1], b[UUID_LEN + 1];

    for (int i = 0; i < 1000; i++) {
        assert_true(string_uuid(a) && string_uuid(b));
        assert_int_equal(strlen(a), UUID_LEN);
        assert_string_not_equal(a, b);
        assert_int_equal(a[14], '4');
        assert_non_null(strchr("89ab", a[19]));
        for (size_t j = 0; j < UUID_LEN; j++)
            assert_true(j == 8 || j == 13 || j == 18 || j == 23
                            ? a[j] == '-'
                            : strchr("0123456789abcdef", a[j]) != NULL);
    }
}

TEST_MAIN(NULL, NULL)
