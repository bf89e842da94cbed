/* POST /preprocess: an upload in, the stored object's name out. */
#include "image_upload.h"
#include "preprocess.h"

static struct reply reply_preprocessed(const struct app *app, const struct preprocessed *object)
{
    const char *base = app->service.settings.results_base_url;
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:s, s:I}", "gcs_path", object->uri, "message_id",
        object->message_id, "id", object->name.id, "width", object->width, "height", object->height,
        "format", image_format_name(object->name.format), "bytes", (json_int_t)object->bytes);

    /* classify_service knows no owners */
    if (json != NULL && *base != '\0' && !object->name.sealed)
        json_object_set_new(json, "result_url",
                            json_sprintf("%s/results/%s", base, object->name.id));
    return reply_json(200, json);
}

struct reply handle_preprocess(const struct app *app, const struct request *req)
{
    struct preprocessed object;
    struct image_options options;
    struct error err = {0};
    struct bytes file;
    bool seal = false;

    if (!image_upload_read(req, &file, &options, &seal, &err) ||
        !preprocess(app, &req->context, file, &options, seal, &object, &err))
        return reply_error(&err);
    return reply_preprocessed(app, &object);
}
