#include "http/upload.h"

#include "base/strings.h"

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

static bool read_form(const struct request *req, struct upload *ret, struct error *err)
{
    struct multipart m;
    bool found = false;

    if (!multipart_parse(request_header(req, "Content-Type"), req->body, &m, err))
        return false;
    for (size_t i = 0; i < m.part_count; i++) {
        const struct multipart_part *part = &m.parts[i];
        if (strcmp(part->name, "file") != 0) {
            if (!read_field(ret, part, err))
                return false;
        } else if (found) {
            return error_set(err, ERROR_BAD_REQUEST, "more than one field named file");
        } else {
            ret->file = part->content;
            found = true;
        }
    }
    if (!found)
        return error_set(err, ERROR_BAD_REQUEST,
                         "no field named file; send the image as `file` in multipart/form-data");
    return true;
}

bool upload_read(const struct request *req, struct upload *ret, struct error *err)
{
    char type[MEDIA_TYPE_MAX];

    *ret = (struct upload){0};
    request_media_type(req, type);
    if (strcmp(type, "multipart/form-data") == 0) {
        if (!read_form(req, ret, err))
            return false;
    } else if (string_starts_with(type, "image/")) {
        ret->file = req->body;
    } else {
        return error_set(
            err, ERROR_UNSUPPORTED_MEDIA,
            "send multipart/form-data with the image in field `file`, or the image itself "
            "with its image/ Content-Type");
    }
    if (ret->file.len == 0)
        return error_set(err, ERROR_UNSUPPORTED_MEDIA, "the file is empty");
    return true;
}

bool upload_options(const struct request *req, const struct upload *upload, upload_option_fn set,
                    void *ctx, struct error *err)
{
    size_t total = req->query_count + upload->field_count;
    const char *names[128];

    if (total > ARRAY_SIZE(names))
        return error_set(err, ERROR_BAD_REQUEST, "more than %zu options", ARRAY_SIZE(names));
    for (size_t i = 0; i < total; i++) {
        bool is_query = i < req->query_count;
        size_t k = is_query ? i : i - req->query_count;
        names[i] = is_query ? req->query[k].name : upload->fields[k].name;
        for (size_t j = 0; j < i; j++)
            if (strcmp(names[i], names[j]) == 0)
                return error_set(err, ERROR_BAD_REQUEST, "%.64s: given more than once", names[i]);
        if (set(ctx, names[i], is_query ? req->query[k].value : upload->fields[k].value, err))
            continue;
        if (err->code == ERROR_NOT_FOUND)
            error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", names[i]);
        return false;
    }
    return true;
}
