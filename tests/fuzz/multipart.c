/* multipart/form-data: the value of Content-Type in the first line, then the body. */
#include "fuzz.h"
#include "http/upload.h"

static bool parse(const char *type, struct bytes body, size_t step, struct multipart *m,
                  struct error *err)
{
    if (!multipart_init(m, type, err))
        return false;
    for (size_t at = 0; at < body.len; at += step) {
        size_t len = body.len - at < step ? body.len - at : step;
        if (!multipart_feed(m, bytes_of(body.data + at, len), err))
            return false;
    }
    return multipart_finish(m, err);
}

static void check_parts(const struct multipart *m, struct bytes body)
{
    const char *boundary = m->delimiter + 2; /* after the CR LF */
    uint64_t end = 0;

    FUZZ_CHECK(m->part_count <= MULTIPART_PARTS_MAX);
    for (size_t i = 0; i < m->part_count; i++) {
        const struct multipart_part *part = &m->parts[i];
        FUZZ_CHECK(strnlen(part->name, sizeof(part->name)) <= MULTIPART_NAME_MAX);
        FUZZ_CHECK(part->start > end && part->start <= part->end && part->end <= body.len);
        const uint8_t *content = body.data + part->start;
        size_t len = part->end - part->start;
        FUZZ_CHECK(memmem(content, len, m->delimiter, m->delimiter_len) == NULL);
        FUZZ_CHECK(!bytes_starts_with(bytes_of(content, len), boundary, strlen(boundary)));
        end = part->end;
    }
}

/* However the stream is cut, the parts are the same. */
static bool check_cuts(const char *type, struct bytes body)
{
    struct multipart whole, pieces;
    struct error err = {0}, why;
    bool ok = parse(type, body, body.len + 1, &whole, &err);

    if (ok)
        check_parts(&whole, body);
    else
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
    for (size_t step = 1; step <= 7; step += 3) {
        why = (struct error){0};
        FUZZ_CHECK(parse(type, body, step, &pieces, &why) == ok);
        FUZZ_CHECK(strcmp(why.message, err.message) == 0);
        FUZZ_CHECK(!ok || pieces.part_count == whole.part_count);
        for (size_t i = 0; ok && i < whole.part_count; i++)
            FUZZ_CHECK(pieces.parts[i].start == whole.parts[i].start &&
                       pieces.parts[i].end == whole.parts[i].end &&
                       pieces.parts[i].is_file == whole.parts[i].is_file &&
                       strcmp(pieces.parts[i].name, whole.parts[i].name) == 0);
    }
    return ok;
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
    FUZZ_CHECK(form_is_good || strncasecmp(type, "image/", 6) == 0);
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

    bool ok = check_cuts(type, body);
    check_upload(type, body, ok);
    check_round_trip(body);
    return 0;
}
