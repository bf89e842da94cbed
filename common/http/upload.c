#include "http/upload.h"

#include "base/strings.h"
#include "http/encoding.h"

#include <string.h>

static bool read_field(struct upload *ret, const struct multipart_part *part, struct error *err)
{
    struct bytes content = part->content;

    if (content.len > UPLOAD_VALUE_MAX || memchr(content.data, '\0', content.len) != NULL)
        return error_set(err, ERROR_BAD_REQUEST, "%s: not text of at most %d bytes", part->name,
                         UPLOAD_VALUE_MAX);
    struct upload_field *field = &ret->fields[ret->field_count++];
    memcpy(field->name, part->name, sizeof(field->name));
    memcpy(field->value, content.data, content.len);
    field->value[content.len] = '\0';
    return true;
}

static bool no_file(const struct multipart *m, struct error *err)
{
    char names[128] = "";
    size_t len = 0;

    for (size_t i = 0; i < m->part_count && len < sizeof(names); i++)
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%.40s", i > 0 ? ", " : "",
                                m->parts[i].name);
    return error_set(err, ERROR_BAD_REQUEST,
                     "the form has no field named file%s%s; send the image as `file`",
                     m->part_count > 0 ? ", only " : "", names);
}

static bool read_form(const struct request *req, struct upload *ret, struct error *err)
{
    struct multipart m;
    size_t files = 0;

    if (!multipart_parse(request_header(req, "Content-Type"), req->body, &m, err))
        return false;
    for (size_t i = 0; i < m.part_count; i++) {
        if (strcmp(m.parts[i].name, "file") != 0)
            continue;
        ret->file = m.parts[i].content;
        files++;
    }
    if (files == 0) /* before the others are judged: one of them may be the image */
        return no_file(&m, err);
    if (files > 1)
        return error_set(err, ERROR_BAD_REQUEST, "more than one field named file");
    for (size_t i = 0; i < m.part_count; i++)
        if (strcmp(m.parts[i].name, "file") != 0 && !read_field(ret, &m.parts[i], err))
            return false;
    return true;
}

bool upload_read(const struct request *req, struct upload *ret, struct error *err)
{
    char type[MEDIA_TYPE_MAX];

    *ret = (struct upload){0};
    request_media_type(req, type);
    if (!encoding_is_identity(req))
        return error_set(err, ERROR_UNSUPPORTED_MEDIA, "send the image without a Content-Encoding");
    if (strcmp(type, "multipart/form-data") == 0) {
        if (!read_form(req, ret, err))
            return false;
    } else if (string_starts_with(type, "image/") ||
               strcmp(type, "application/octet-stream") == 0 ||
               request_header(req, "Content-Type") == NULL) {
        ret->file = req->body;
    } else {
        return error_set(
            err, ERROR_UNSUPPORTED_MEDIA,
            "send multipart/form-data with the image in field `file`, or the image itself "
            "with an image/ Content-Type");
    }
    if (ret->file.len == 0)
        return error_set(err, ERROR_UNSUPPORTED_MEDIA, "the file is empty");
    return true;
}

static bool is_blank(const char *value)
{
    return value[strspn(value, " \t\r\n")] == '\0';
}

bool upload_options(const struct request *req, const struct upload *upload, upload_option_fn set,
                    void *ctx, struct error *err)
{
    size_t total = req->query_count + upload->field_count;
    const char *names[128];
    size_t count = 0;

    if (total > ARRAY_SIZE(names))
        return error_set(err, ERROR_BAD_REQUEST, "more than %zu options", ARRAY_SIZE(names));
    for (size_t i = 0; i < total; i++) {
        bool is_query = i < req->query_count;
        size_t k = is_query ? i : i - req->query_count;
        const char *name = is_query ? req->query[k].name : upload->fields[k].name;
        const char *value = is_query ? req->query[k].value : upload->fields[k].value;
        if (!is_query && is_blank(value))
            continue;
        for (size_t j = 0; j < count; j++)
            if (strcmp(name, names[j]) == 0)
                return error_set(err, ERROR_BAD_REQUEST, "%.64s: given more than once", name);
        names[count++] = name;
        if (set(ctx, name, value, err))
            continue;
        if (err->code == ERROR_NOT_FOUND)
            error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", name);
        return false;
    }
    return true;
}
