#include "../test_cases.h"
#include "http/multipart.h"

static const char content_type[] = "multipart/form-data; boundary=XX";

static bool parse(struct multipart *m, const char *text, size_t len, struct error *err)
{
    return multipart_parse(content_type, bytes_of(text, len), m, err);
}

static void assert_part(const struct multipart *m, size_t i, const char *name, bool is_file,
                        const char *content)
{
    const struct multipart_part *part = &m->parts[i];

    assert_string_equal(part->name, name);
    assert_int_equal(part->is_file, is_file);
    assert_int_equal(part->content.len, strlen(content));
    assert_memory_equal(part->content.data, content, strlen(content));
}

TEST(a_form_has_its_parts)
{
    static const char text[] =
        "preamble\r\n--XX\r\n"
        "Content-Disposition: form-data; name=\"width\"\r\n\r\n"
        "100\r\n--XX\r\n"
        "content-disposition: form-data; name=\"file\"; filename=\"a\\\"b;c.jpg\"\r\n"
        "Content-Type: image/jpeg\r\n\r\n"
        "\r\n-\r\n--X\r\r\n--XY data \r\n--XX \t\r\n"
        "Content-Disposition: form-data; name=empty\r\n\r\n"
        "\r\n--XX--\r\nepilogue";
    struct multipart m;
    struct error err = {0};

    assert_true(parse(&m, text, strlen(text), &err));
    assert_int_equal(m.part_count, 3);
    assert_part(&m, 0, "width", false, "100");
    assert_part(&m, 1, "file", true, "\r\n-\r\n--X\r\r\n--XY data ");
    assert_part(&m, 2, "empty", false, "");
}

TEST(a_delimiter_may_open_the_body)
{
    static const char text[] = "--XX\r\nContent-Disposition: form-data; name=\"file\"; "
                               "filename*=UTF-8''a.jpg\r\n\r\nDATA\r\n--XX--";
    struct multipart m;
    struct error err = {0};

    assert_true(parse(&m, text, strlen(text), &err));
    assert_int_equal(m.part_count, 1);
    assert_part(&m, 0, "file", true, "DATA");
}

TEST(truncation_anywhere_is_an_error)
{
    static const char text[] =
        "--XX\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nDATA\r\n--XX--";
    struct multipart m;
    struct error err = {0};

    for (size_t len = 0; len < strlen(text); len++) {
        assert_fails(err, ERROR_BAD_REQUEST, parse(&m, text, len, &err));
    }
}

TEST(malformed_forms_are_refused)
{
    static const char *const bad[] = {
        "--XX\r\n\r\nno headers\r\n--XX--",
        "--XX\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data\r\n\r\n\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=\"a\"; name=\"b\"\r\n\r\n\r\n--XX--",
        "--XX\r\nContent-Disposition: form-dataX; name=\"a\"\r\n\r\n\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\nQQ==\r\n--XX--",
        "--XXgarbage\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--XX--",
        "--XX-\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n--XX--",
        "",
        "no delimiter at all",
    };
    struct multipart m;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = {0};
        if (parse(&m, bad[i], strlen(bad[i]), &err))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
    }
}

TEST(limits_are_hard)
{
    static char text[200000];
    struct multipart m;
    struct error err = {0};
    size_t len = 0;

    for (int i = 0; i <= MULTIPART_PARTS_MAX; i++)
        len += (size_t)sprintf(
            text + len, "--XX\r\nContent-Disposition: form-data; name=\"p%d\"\r\n\r\n\r\n", i);
    sprintf(text + len, "--XX--");
    assert_false(parse(&m, text, strlen(text), &err));
    assert_non_null(strstr(err.message, "16 parts"));

    len = (size_t)sprintf(text, "--XX\r\nX-Long: ");
    memset(text + len, 'a', 5000);
    text[len + 5000] = '\0';
    assert_false(parse(&m, text, strlen(text), &err));
    assert_non_null(strstr(err.message, "4096 bytes of headers"));

    sprintf(text, "--XX\r\nContent-Disposition: form-data; name=\"%0100d\"\r\n\r\n\r\n--XX--", 1);
    assert_false(parse(&m, text, strlen(text), &err));
    assert_non_null(strstr(err.message, "64 bytes"));
}

TEST(boundaries)
{
    static const struct {
        const char *type, *boundary; /* NULL: it is refused */
    } table[] = {
        {"multipart/form-data; boundary=abc", "abc"},
        {"multipart/form-data; charset=utf-8; boundary=\"a b\"", "a b"},
        {"multipart/form-data; Boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
         "----WebKitFormBoundary7MA4YWxkTrZu0gW"},
        {"multipart/form-data", NULL},
        {"multipart/form-data; boundary=", NULL},
        {"multipart/form-data; boundary=\"\"", NULL},
        {"multipart/form-data; boundary=\"abc", NULL},
        {"multipart/form-data; boundary=a; boundary=b", NULL},
        {"multipart/form-data; boundary=\"a \"", NULL},
        {"multipart/form-data; boundary=\"a\\\"b\"", NULL},
        {"multipart/form-data; "
         "boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         NULL},
    };
    struct multipart m;
    char body[128];

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct error err = {0};
        bool valid = table[i].boundary != NULL;
        snprintf(body, sizeof(body), "--%s--", valid ? table[i].boundary : "");
        if (multipart_parse(table[i].type, bytes_from_str(body), &m, &err) != valid)
            fail_msg("wrong answer for %s", table[i].type);
        assert_int_equal(strstr(err.message, "valid boundary") == NULL, valid);
    }
}

TEST_MAIN(NULL, NULL)
