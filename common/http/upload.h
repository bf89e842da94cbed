/* An upload: one file and its options, however it was sent (multipart/form-data with the file in
 * field `file`, or the file itself as the body). Pure. */
#pragma once

#include "http/multipart.h"
#include "http/request.h"

enum { UPLOAD_VALUE_MAX = 256 };

struct upload {
    struct bytes file; /* a view of the request's body */
    size_t field_count;
    struct upload_field {
        char name[MULTIPART_NAME_MAX + 1];
        char value[UPLOAD_VALUE_MAX + 1];
    } fields[MULTIPART_PARTS_MAX]; /* the other form fields, then nothing of the query */
};

/* A body is the file itself when its type is image/..., application/octet-stream, or missing: what
 * it really is, its first bytes say. ERROR_UNSUPPORTED_MEDIA: another content type, a
 * Content-Encoding, or an empty file. ERROR_BAD_REQUEST: a malformed form, no field `file` or two,
 * a field's value over UPLOAD_VALUE_MAX. */
bool upload_read(const struct request *req, struct upload *ret, struct error *err) NODISCARD;

/* Call `set` for every option in the query and the form; a blank form field is left out, since
 * browsers send every field of a form. An option that stands twice is ERROR_BAD_REQUEST, named.
 * Errors of `set` end the walk; its ERROR_NOT_FOUND (no such option) becomes ERROR_BAD_REQUEST. */
typedef bool (*upload_option_fn)(void *ctx, const char *name, const char *value, struct error *err);
bool upload_options(const struct request *req, const struct upload *upload, upload_option_fn set,
                    void *ctx, struct error *err) NODISCARD;
