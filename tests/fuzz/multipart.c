/* multipart/form-data: the value of Content-Type in the first line, then the body. */
#include "fuzz.h"
#include "http/upload.h"

/* Parts lie in the body one after the other, each between a blank line and a delimiter. */
static bool check_parts(const char *type, struct bytes body)
{
    const uint8_t *at = body.data, *body_end = body.data + body.len;
    struct multipart m;
    struct error err = {0};

    if (!multipart_parse(type, body, &m, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
        return false;
    }
    FUZZ_CHECK(m.part_count <= MULTIPART_PARTS_MAX);
    for (size_t i = 0; i < m.part_count; i++) {
        const struct multipart_part *part = &m.parts[i];
        const uint8_t *start = part->content.data, *end = start + part->content.len;
        FUZZ_CHECK(strnlen(part->name, sizeof(part->name)) <= MULTIPART_NAME_MAX);
        FUZZ_CHECK(start >= at + 4 && end >= start && end + 4 <= body_end);
        if (part->content.len > 0)
            FUZZ_CHECK(memcmp(start - 4, "\r\n\r\n", 4) == 0);
        FUZZ_CHECK(memcmp(end, "\r\n--", 4) == 0);
        at = end + 4;
    }
    return true;
}

static void check_upload(const char *type, struct bytes body, bool form_is_good)
{
    const struct http_field header = {"Content-Type", type};
    const struct request req = {.headers = &header, .header_count = 1, .body = body};
    struct upload upload;
    struct error err = {0};

    if (!upload_read(&req, &upload, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST, ERROR_UNSUPPORTED_MEDIA);
        return;
    }
    FUZZ_CHECK(upload.file.len > 0 && upload.file.data >= body.data &&
               upload.file.data + upload.file.len <= body.data + body.len);
    /* what is no form is the file itself, if it claims to be an image or only bytes */
    FUZZ_CHECK(form_is_good || strncasecmp(type, "image/", 6) == 0 ||
               strncasecmp(type, "application/octet-stream", 24) == 0);
    for (size_t i = 0; i < upload.field_count; i++)
        FUZZ_CHECK(strlen(upload.fields[i].value) <= UPLOAD_VALUE_MAX);
}

/* What is put into a form comes out of it. */
static void check_round_trip(struct bytes content)
{
    static const char boundary[] = "--fuzz", type[] = "multipart/form-data; boundary=fuzz";
    const struct http_field header = {"Content-Type", type};
    CLEANUP(buffer_done) struct buffer form = BUFFER_MAX(content.len + 1024);
    struct upload upload;
    struct error err = {0};

    if (content.len == 0 || memmem(content.data, content.len, boundary, strlen(boundary)) != NULL)
        return;
    FUZZ_CHECK(buffer_printf(&form, &err,
                             "%s\r\nContent-Disposition: form-data; name=\"width\"\r\n\r\n12\r\n"
                             "%s\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n",
                             boundary, boundary) &&
               buffer_append(&form, content.data, content.len, &err) &&
               buffer_printf(&form, &err, "\r\n%s--\r\n", boundary));
    const struct request req = {.headers = &header, .header_count = 1, .body = buffer_view(&form)};
    FUZZ_CHECK(upload_read(&req, &upload, &err));
    FUZZ_CHECK(bytes_equal(upload.file, content));
    FUZZ_CHECK(upload.field_count == 1 && strcmp(upload.fields[0].name, "width") == 0 &&
               strcmp(upload.fields[0].value, "12") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes body = bytes_of(data, size);
    CLEANUP_FREE char *type = fuzz_line(&body);

    check_upload(type, body, check_parts(type, body));
    check_round_trip(body);
    return 0;
}
