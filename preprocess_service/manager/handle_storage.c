/* POST, GET and DELETE of /plain-image and /cipher-image: the older image storage, whose names are
 * "<uuid>.<subtype>". There anybody could; here it needs a user, and DELETE the owner. */
#include "manager.h"

#include <string.h>

enum { DIGITS = 32 }; /* of a UUID */

static bool is_cipher(const struct request *req)
{
    return string_starts_with(req->route, "/cipher-image");
}

/* Not of a version that RFC 9562 knows: its digits are the picture's own. */
static void uuid_of(const char *id, char out[UUID_LEN + 1])
{
    snprintf(out, UUID_LEN + 1, "%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20);
}

/* The digits of "<uuid>.<subtype>"; false: it is none. The reply to DELETE repeats the subtype. */
static bool digits_of(const char *name, char out[DIGITS + 1])
{
    static const char subtype[] = "abcdefghijklmnopqrstuvwxyz0123456789+.-";
    size_t n = 0, i = 0;

    for (; i < UUID_LEN && name[i] != '\0'; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash != (name[i] == '-'))
            return false;
        if (!dash)
            out[n++] = name[i];
    }
    out[n] = '\0';
    return n == DIGITS && name[i] == '.' && name[i + 1] != '\0' &&
           name[i + 1 + strspn(name + i + 1, subtype)] == '\0';
}

static bool find(const struct app *app, const struct manager_call *call, struct object_name *ret,
                 struct error *err)
{
    char digits[DIGITS + 1];

    if (!digits_of(call->req.argument, digits))
        return error_set(err, ERROR_NOT_FOUND, "no such image");
    return manager_find(app, call, digits, ret, err) &&
           (ret->sealed == is_cipher(&call->req) ||
            error_set(err, ERROR_NOT_FOUND, "no such image"));
}

struct reply handle_storage_upload(const struct app *app, const struct request *req)
{
    struct preprocessed object;
    struct manager_call call;
    char uuid[UUID_LEN + 1];
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err) ||
        !manager_upload(app, &call, is_cipher(req), &object, &err))
        return reply_error(&err);
    uuid_of(object.name.id, uuid);
    return reply_json(200,
                      json_pack("{s:o, s:b}", "imageName",
                                json_sprintf("%s.%s", uuid, image_format_name(object.name.format)),
                                "ok", true));
}

/* Two forms of one fault, as there. */
static struct reply reply_no_file(const struct request *req, struct error *err)
{
    if (err->code != ERROR_NOT_FOUND)
        return reply_error(err);
    if (!is_cipher(req))
        return reply_json(404, json_pack("{s:s}", "error", "Image Does Not Exist"));
    error_set(err, ERROR_NOT_FOUND, "File Not Exit");
    return reply_error(err);
}

struct reply handle_storage_file(const struct app *app, const struct request *req)
{
    struct object_name name;
    struct manager_call call;
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err))
        return reply_error(&err);
    if (!find(app, &call, &name, &err))
        return reply_no_file(req, &err);
    call.req.argument = name.id;
    struct reply reply = handle_images(app, &call.req);
    return reply.error.code == ERROR_NOT_FOUND ? reply_no_file(req, &reply.error) : reply;
}

struct reply handle_storage_delete(const struct app *app, const struct request *req)
{
    struct object_name name;
    struct manager_call call;
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err))
        return reply_error(&err);
    if (find(app, &call, &name, &err) &&
        catalogue_delete(app->catalogue, name.id, call.caller.name, req->context.deadline_ms, &err))
        return reply_json(200, json_pack("{s:b, s:o}", "ok", true, "message",
                                         json_sprintf("image %s deleted", req->argument)));
    if (err.code != ERROR_NOT_FOUND)
        return reply_error(&err);
    error_set(&err, ERROR_NOT_FOUND, "ENOENT: no such file");
    return manager_fault(500, &err);
}
