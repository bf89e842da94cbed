/* POST /upload, /reduce and /remove: one stage of the older pipeline each, {"image_data"} in and
 * out. */
#include "handle.h"

#include <string.h>

bool read_image_data(const struct app *app, const struct request *req, const char *missing,
                     struct image_data *ret, struct error *err)
{
    return image_data_read(req, (size_t)app->service.settings.max_body_bytes, ret, err) &&
           (ret->picture.len > 0 || error_set(err, ERROR_BAD_REQUEST, "%s", missing));
}

const char *read_file_name(const struct image_data *data)
{
    const char *name = json_string_value(json_object_get(data->object, "file_name"));

    return name != NULL && *name != '\0' ? name : "unknown";
}

struct reply reply_pictures(const struct request *req, json_t *object,
                            const struct image_member *members, size_t count)
{
    CLEANUP(buffer_done) struct buffer body = {0};
    size_t size = 0;
    struct error err = {0};

    for (size_t i = 0; i < count; i++)
        size += image_data_size(members[i].picture.len);
    body.max = size;
    if (!byte_budget_take(req->context.budget, (int64_t)size)) {
        json_decref(object);
        error_set(&err, ERROR_OVERLOADED, "no room for a reply of %zu bytes", size);
        return reply_error(&err);
    }
    if (!image_data_write(object, members, count, &body, &err)) {
        byte_budget_give(req->context.budget, (int64_t)size);
        return reply_error(&err);
    }
    struct reply reply = reply_buffer(200, "application/json", &body);
    reply.charged_bytes = (int64_t)size;
    return reply;
}

struct reply handle_upload(const struct app *app, const struct request *req)
{
    CLEANUP(image_data_done) struct image_data data = {0};
    struct error err = {0};

    if (!read_image_data(app, req, "No image_data provided", &data, &err))
        return reply_error(&err);
    return reply_pictures(req, json_pack("{s:s}", "file_name", read_file_name(&data)),
                          &(struct image_member){"image_data", buffer_view(&data.picture)}, 1);
}

static struct reply handle_stage(const struct app *app, const struct request *req,
                                 enum pipeline_stage stage)
{
    CLEANUP(image_data_done) struct image_data data = {0};
    CLEANUP(stage_work_done) struct stage_work work = {0};
    struct error err = {0};

    if (!read_image_data(app, req, "image_data is required", &data, &err))
        return reply_error(&err);
    work.picture = data.picture;
    data.picture = (struct buffer){0};
    if (!stage_run_here(app, &req->context, stage, &work, &err))
        return reply_error(&err);
    return reply_pictures(req, json_object(),
                          &(struct image_member){"image_data", buffer_view(&work.picture)}, 1);
}

struct reply handle_reduce(const struct app *app, const struct request *req)
{
    return handle_stage(app, req, PIPELINE_REDUCE);
}

struct reply handle_remove(const struct app *app, const struct request *req)
{
    return handle_stage(app, req, PIPELINE_REMOVE);
}
