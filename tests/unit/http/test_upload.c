#include "../test_cases.h"
#include "http/upload.h"

#define FORM "multipart/form-data; boundary=B"
#define FIELD(name, value)                                                                         \
    "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define FILE_PART(data)                                                                            \
    "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n" data "\r\n"
#define END "--B--"

static bool read_upload(const char *type, const char *body, size_t len, struct upload *upload,
                        struct error *err)
{
    const struct http_field header = {"Content-Type", type};
    const struct request req = {
        .headers = &header, .header_count = type != NULL, .body = bytes_of(body, len)};

    return upload_read(&req, upload, err);
}

TEST(uploads)
{
    static const struct {
        const char *type, *body;
        enum error_code code;
        const char *file;
        size_t fields;
    } cases[] = {
        {"image/jpeg", "DATA", ERROR_NONE, "DATA", 0},
        {"IMAGE/anything; x=y", "DATA", ERROR_NONE, "DATA", 0},
        {"image/jpeg", "", ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {NULL, "DATA", ERROR_NONE, "DATA", 0},
        {"application/octet-stream", "DATA", ERROR_NONE, "DATA", 0},
        {"application/octet", "DATA", ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {"", "DATA", ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {"text/plain", "DATA", ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {"application/x-www-form-urlencoded", "file=DATA", ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {"imagejpeg", "DATA", ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {FORM, FILE_PART("DATA") END, ERROR_NONE, "DATA", 0},
        {FORM, FIELD("width", "1") FILE_PART("DATA") FIELD("fit", "") END, ERROR_NONE, "DATA", 2},
        {FORM, FIELD("file", "DATA") END, ERROR_NONE, "DATA", 0},
        {FORM, FILE_PART("") END, ERROR_UNSUPPORTED_MEDIA, NULL, 0},
        {FORM, FIELD("width", "1") END, ERROR_BAD_REQUEST, NULL, 0},
        {FORM, FILE_PART("a") FILE_PART("b") END, ERROR_BAD_REQUEST, NULL, 0},
        {FORM, FILE_PART("") FILE_PART("b") END, ERROR_BAD_REQUEST, NULL, 0},
        {FORM, FILE_PART("a"), ERROR_BAD_REQUEST, NULL, 0},
        {FORM, "", ERROR_BAD_REQUEST, NULL, 0},
        {"multipart/form-data", FILE_PART("a") END, ERROR_BAD_REQUEST, NULL, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct upload upload;
        struct error err = {0};
        bool ok = read_upload(cases[i].type, cases[i].body, strlen(cases[i].body), &upload, &err);
        if (err.code != cases[i].code || ok != (cases[i].code == ERROR_NONE))
            fail_msg("case %zu: %s", i, err.message);
        if (!ok)
            continue;
        assert_int_equal(upload.file.len, strlen(cases[i].file));
        assert_memory_equal(upload.file.data, cases[i].file, upload.file.len);
        assert_int_equal(upload.field_count, cases[i].fields);
    }
}

TEST(values_are_short_text)
{
    static const char nul[] = FIELD("width", "1\0002") FILE_PART("x") END;
    char body[1024], value[UPLOAD_VALUE_MAX + 2];
    struct upload upload;
    struct error err = {0};

    assert_fails(err, ERROR_BAD_REQUEST, read_upload(FORM, nul, sizeof(nul) - 1, &upload, &err));
    for (size_t len = UPLOAD_VALUE_MAX; len <= UPLOAD_VALUE_MAX + 1; len++) {
        memset(value, 'v', len);
        value[len] = '\0';
        int n = snprintf(body, sizeof(body), FIELD("width", "%s") FILE_PART("x") END, value);
        assert_int_equal(read_upload(FORM, body, (size_t)n, &upload, &err),
                         len == UPLOAD_VALUE_MAX);
        if (len == UPLOAD_VALUE_MAX)
            assert_string_equal(upload.fields[0].value, value);
    }
    assert_non_null(strstr(err.message, "width"));
}

TEST(a_form_without_file_names_its_fields)
{
    static const char two[] = FIELD("image", "1") FIELD("width", "2") END;
    char body[4096], *end = body;
    struct upload upload;
    struct error err = {0};

    assert_false(read_upload(FORM, two, sizeof(two) - 1, &upload, &err));
    assert_non_null(strstr(err.message, "only image, width;"));
    for (int i = 0; i < MULTIPART_PARTS_MAX; i++)
        end += sprintf(end, FIELD("a-name-of-some-length-%d", "1"), i);
    end += sprintf(end, END);
    assert_fails(err, ERROR_BAD_REQUEST,
                 read_upload(FORM, body, (size_t)(end - body), &upload, &err));
}

TEST(packed_images_are_refused)
{
    const struct http_field headers[] = {{"Content-Type", "image/png"},
                                         {"Content-Encoding", "gzip"}};
    const struct request req = {.headers = headers, .header_count = 2, .body = bytes_of("x", 1)};
    struct upload upload;
    struct error err = {0};

    assert_fails(err, ERROR_UNSUPPORTED_MEDIA, upload_read(&req, &upload, &err));
}

struct seen {
    char text[512];
};

static bool set(void *ctx, const char *name, const char *value, struct error *err)
{
    struct seen *seen = ctx;

    if (strcmp(name, "unknown") == 0)
        return error_set(err, ERROR_NOT_FOUND, "no such option");
    if (strcmp(value, "bad") == 0)
        return error_set(err, ERROR_TOO_LARGE, "%s: bad", name);
    size_t len = strlen(seen->text);
    snprintf(seen->text + len, sizeof(seen->text) - len, "%s=%s;", name, value);
    return true;
}

TEST(options_come_from_query_and_form)
{
    static const struct {
        struct http_field query[3];
        const char *form[3][2];
        enum error_code code;
        const char *text; /* what was set, or what the message names */
    } cases[] = {
        {{{0}}, {{0}}, ERROR_NONE, ""},
        {{{"a", "1"}, {"b", ""}}, {{"c", "3"}}, ERROR_NONE, "a=1;b=;c=3;"},
        /* blank form fields are unset */
        {{{"a", "1"}}, {{"a", ""}, {"b", " \t\r\n"}, {"c", " 3"}}, ERROR_NONE, "a=1;c= 3;"},
        {{{0}}, {{"c", "3"}, {"d", "4"}}, ERROR_NONE, "c=3;d=4;"},
        {{{"a", "1"}, {"a", "1"}}, {{0}}, ERROR_BAD_REQUEST, "a:"},
        {{{"a", "1"}, {"b", "2"}}, {{"b", "2"}}, ERROR_BAD_REQUEST, "b:"},
        {{{0}}, {{"f", "1"}, {"f", "2"}}, ERROR_BAD_REQUEST, "f:"},
        {{{"unknown", "1"}}, {{0}}, ERROR_BAD_REQUEST, "unknown:"},
        {{{0}}, {{"unknown", "1"}}, ERROR_BAD_REQUEST, "unknown:"},
        {{{"a", "bad"}}, {{0}}, ERROR_TOO_LARGE, "a:"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct request req = {.query = cases[i].query};
        struct upload upload = {0};
        struct seen seen = {{0}};
        struct error err = {0};
        while (req.query_count < 3 && cases[i].query[req.query_count].name != NULL)
            req.query_count++;
        for (size_t k = 0; k < 3 && cases[i].form[k][0] != NULL; k++) {
            struct upload_field *field = &upload.fields[upload.field_count++];
            snprintf(field->name, sizeof(field->name), "%s", cases[i].form[k][0]);
            snprintf(field->value, sizeof(field->value), "%s", cases[i].form[k][1]);
        }
        bool ok = upload_options(&req, &upload, set, &seen, &err);
        if (ok != (cases[i].code == ERROR_NONE) || err.code != cases[i].code)
            fail_msg("case %zu: %s", i, err.message);
        if (ok)
            assert_string_equal(seen.text, cases[i].text);
        else
            assert_memory_equal(err.message, cases[i].text, strlen(cases[i].text));
    }
}

TEST(options_are_bounded)
{
    static struct http_field query[200];
    struct upload upload = {0};
    struct seen seen = {{0}};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(query); i++)
        query[i] = (struct http_field){"x", ""};
    assert_fails(err, ERROR_BAD_REQUEST,
                 upload_options(&(struct request){.query = query, .query_count = 200}, &upload, set,
                                &seen, &err));
}

TEST_MAIN(NULL, NULL)
