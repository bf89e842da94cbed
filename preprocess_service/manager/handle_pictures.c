/* POST /image/{id}, where the id is "true" to encrypt, DELETE /image/{id}, GET /view-image/{id}. */
#include "http/encoding.h"
#include "http/multipart.h"
#include "manager.h"

#include <string.h>

/* ---- uploads ---- */

/* The form's one field `image`; others do not count. */
static bool read_image(const struct request *req, struct bytes *ret, struct error *err)
{
    struct multipart form;
    size_t count = 0;

    if (!encoding_is_identity(req))
        return error_set(err, ERROR_UNSUPPORTED_MEDIA, "send the image without a Content-Encoding");
    if (!multipart_parse(request_header(req, "Content-Type"), req->body, &form, err))
        return false;
    for (size_t i = 0; i < form.part_count; i++)
        if (strcmp(form.parts[i].name, "image") == 0) {
            *ret = form.parts[i].content;
            count++;
        }
    return count == 1 ||
           error_set(err, ERROR_BAD_REQUEST, "the form must have one field named image");
}

/* As large as it was sent, and of a format that its kind of picture keeps its looks in. */
static struct image_options options_for(struct bytes file)
{
    struct image_options options = image_options_default();
    enum image_format format = image_sniff(file);

    options.fit = IMAGE_NONE;
    options.format = format == IMAGE_PNG || format == IMAGE_GIF ? IMAGE_PNG
                     : format == IMAGE_WEBP                     ? IMAGE_WEBP
                                                                : IMAGE_JPEG;
    return options;
}

bool manager_upload(const struct app *app, const struct manager_call *call, bool encrypt,
                    struct preprocessed *ret, struct error *err)
{
    struct bytes file = {0};

    if (!read_image(&call->req, &file, err))
        return false;
    const struct image_options options = options_for(file);
    return preprocess(app, &call->req.context, file, &options, encrypt, ret, err);
}

struct reply handle_manager_upload(const struct app *app, const struct request *req)
{
    struct preprocessed object;
    struct manager_call call;
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err) ||
        !manager_upload(app, &call, strcmp(req->argument, "true") == 0, &object, &err))
        return reply_error(&err);
    return reply_json(200, json_pack("{s:o, s:b}", "image_id",
                                     json_stringn(object.name.id, MANAGER_ID_LEN), "ok", true));
}

/* ---- one picture ---- */

bool manager_find(const struct app *app, const struct manager_call *call, const char *digits,
                  struct object_name *ret, struct error *err)
{
    size_t len = strlen(digits);
    json_t *image = NULL;

    if (len < MANAGER_ID_LEN || len > SHA256_HEX_LEN || strspn(digits, "0123456789abcdef") != len)
        return error_set(err, ERROR_NOT_FOUND, "no such image");
    if (!catalogue_find(app->catalogue, digits, call->caller.name, &image,
                        call->req.context.deadline_ms, err))
        return false;
    *ret = (struct object_name){.sealed = json_is_true(json_object_get(image, "sealed"))};
    snprintf(ret->id, sizeof(ret->id), "%s", json_string_value(json_object_get(image, "id")));
    json_decref(image);
    return true;
}

/* The words for what is not there. */
static struct reply reply_missing(struct error *err, const char *missing)
{
    if (err->code == ERROR_NOT_FOUND)
        error_set(err, ERROR_NOT_FOUND, "%s", missing);
    return reply_error(err);
}

/* Another's picture is none, as with the older manager; not even an admin's to delete here. */
struct reply handle_manager_delete(const struct app *app, const struct request *req)
{
    struct object_name name;
    struct manager_call call;
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err))
        return reply_error(&err);
    if (!manager_find(app, &call, req->argument, &name, &err) ||
        !catalogue_delete(app->catalogue, name.id, call.caller.name, req->context.deadline_ms,
                          &err))
        return reply_missing(&err, "File not found");
    return reply_json(200, json_pack("{s:b, s:i}", "ok", true, "deletedCount", 1));
}

struct reply handle_manager_view(const struct app *app, const struct request *req)
{
    static const char missing[] = "image not found";
    struct object_name name;
    struct manager_call call;
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err))
        return reply_error(&err);
    if (!manager_find(app, &call, req->argument, &name, &err))
        return reply_missing(&err, missing);
    call.req.argument = name.id;
    struct reply reply = handle_images(app, &call.req);
    if (reply.error.code == ERROR_NOT_FOUND)
        error_set(&reply.error, ERROR_NOT_FOUND, "%s", missing);
    return reply;
}
