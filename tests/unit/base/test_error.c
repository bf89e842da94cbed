#include "../test_cases.h"
#include "base/error.h"
#include "base/strings.h"

TEST(every_code_is_described)
{
    static const struct {
        enum error_code code;
        int status;
    } table[] = {
#define X(symbol, slug, status, title) {symbol, status},
        ERROR_TABLE(X)
#undef X
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(error_http_status(table[i].code), table[i].status);
        assert_true(strlen(error_slug(table[i].code)) > 0);
        assert_true(strlen(error_title(table[i].code)) > 0);
        assert_int_equal(error_is_passing(table[i].code), table[i].status == 503);
        assert_int_equal(table[i].status == 429, table[i].code == ERROR_TOO_MANY);
        /* never promised by the API */
        assert_int_not_equal(table[i].status, 502);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(error_slug(table[i].code), error_slug(table[j].code));
    }
}

TEST(set_and_wrapped)
{
    struct error err = {0};

    assert_fails(err, ERROR_NOT_FOUND,
                 error_set(&err, ERROR_NOT_FOUND, "no %s number %d", "object", 7));
    assert_string_equal(err.message, "no object number 7");
    assert_fails(err, ERROR_NOT_FOUND, error_wrap(&err, "while %s", "looking"));
    assert_string_equal(err.message, "while looking: no object number 7");
    assert_false(error_oom(&err));
    assert_true(error_is_passing(err.code));
}

TEST(long_messages_are_cut)
{
    char text[1000];
    struct error err = {0};

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&err, ERROR_INTERNAL, "%s", text);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    error_wrap(&err, "context");
    assert_memory_equal(err.message, "context: xxx", 12);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
    error_wrap(&err, "%s", text);
    assert_int_equal(strlen(err.message), sizeof(err.message) - 1);
}

/* Wherever the cut falls, with characters of two, three and four bytes. */
TEST(a_cut_message_is_still_utf8)
{
    static const char *const characters[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x93\xB7"};
    char text[600];
    struct error err;

    for (size_t c = 0; c < ARRAY_SIZE(characters); c++) {
        for (size_t shift = 0; shift < 4; shift++) {
            size_t width = strlen(characters[c]), len = shift;
            memset(text, 'x', shift);
            for (; len + width < sizeof(text); len += width)
                memcpy(text + len, characters[c], width);
            text[len] = '\0';
            error_set(&err, ERROR_BAD_REQUEST, "%s", text);
            assert_true(string_is_utf8(bytes_from_str(err.message)));
            assert_true(strlen(err.message) + width >= sizeof(err.message) - 1);
            error_wrap(&err, "in");
            assert_true(string_is_utf8(bytes_from_str(err.message)));
        }
    }
}

TEST(bytes_that_are_no_text_are_shown_as_such)
{
    char text[600], marks[sizeof(((struct error *)NULL)->message)];
    struct error err;

    memset(text, 0x80, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&err, ERROR_BAD_REQUEST, "%s", text);
    memset(marks, '?', sizeof(marks) - 1);
    marks[sizeof(marks) - 1] = '\0';
    assert_string_equal(err.message, marks);
    error_set(&err, ERROR_BAD_REQUEST, "%.1s, a: \xc3\xa9", "\xc3\xa9"); /* cut by the caller */
    assert_string_equal(err.message, "?, a: ??");
    error_set(&err, ERROR_BAD_REQUEST, "b");
    error_wrap(&err, "\xff");
    assert_string_equal(err.message, "?: b");
}

TEST_MAIN(NULL, NULL)
