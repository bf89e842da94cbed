/* POST /process, GET /status/{id}, GET /timeline.png and .svg: the older pipeline's orchestrator.
 * Its clients stop asking for the status when `success` or `error` is true in their language. */
#include "handle.h"

#include "base/log.h"
#include "base/strings.h"

/* A 4xx has the shape of this route's other replies. */
static struct reply refuse(const struct error *err)
{
    int status = error_http_status(err->code);

    if (status >= 500)
        return reply_error(err);
    return reply_json(status, json_pack("{s:b, s:s}", "success", 0, "message", err->message));
}

struct reply handle_process(const struct app *app, const struct request *req)
{
    CLEANUP(image_data_done) struct image_data data = {0};
    char id[UUID_LEN + 1];
    struct error err = {0};

    if (!read_image_data(app, req, "No file or image_data provided", &data, &err) ||
        !pipeline_accept(
            app->pipeline, &req->context,
            &(struct pipeline_upload){read_file_name(&data), &data.picture, &data.charged}, id,
            &err))
        return refuse(&err);
    return reply_json(
        200, json_pack("{s:b, s:o, s:s}", "success", 1, "message",
                       json_sprintf("Image '%s' accepted for processing.", read_file_name(&data)),
                       "task_id", id));
}

void draw_plot(const struct app *app, const struct request *req, const struct task *task,
               struct buffer *out)
{
    struct error err = {0};

    if (pipeline_plot(app->pipeline, &req->context, task, PLOT_PNG, out, &err))
        return;
    out->len = 0;
    log_warning("no plot", F("request_id", req->context.id), F("error", (const char *)err.message));
}

static struct reply reply_task(const struct app *app, const struct request *req,
                               const struct task *task, struct bytes picture)
{
    CLEANUP(buffer_done) struct buffer plot = BUFFER_MAX(PLOT_BYTES_MAX);
    const bool done = task->state == TASK_DONE;

    if (done)
        draw_plot(app, req, task, &plot);
    const struct image_member members[] = {{"processed_image_data", picture},
                                           {"timeline_plot_image", buffer_view(&plot)}};
    return reply_pictures(req,
                          json_pack("{s:b, s:s, s:o, s:s, s:o}", "success", done, "message",
                                    "Processing completed", "response",
                                    done ? json_pack("{s:s}", "label", task->label) : json_null(),
                                    "timeline_plot_filename", plot.len > 0 ? PLOT_NAME : "",
                                    "error", done ? json_null() : json_string(task->error)),
                          members, ARRAY_SIZE(members));
}

struct reply handle_status(const struct app *app, const struct request *req)
{
    CLEANUP(buffer_done) struct buffer picture = {0};
    struct task task;
    struct error err = {0};

    if (!pipeline_look(app->pipeline, &req->context, req->argument, &task, &err))
        return reply_error(&err);
    if (task.state == TASK_PENDING)
        return reply_json(200,
                          json_pack("{s:b, s:s}", "success", 0, "message", "Processing pending"));
    if (!byte_budget_take(req->context.budget, (int64_t)task.bytes)) {
        error_set(&err, ERROR_OVERLOADED, "no room for a picture");
        return reply_error(&err);
    }
    struct reply reply =
        task_load_picture(app->service.store, &task, req->context.deadline_ms, &picture, &err)
            ? reply_task(app, req, &task, buffer_view(&picture))
            : reply_error(&err);
    byte_budget_give(req->context.budget, (int64_t)task.bytes);
    return reply;
}

struct reply handle_timeline(const struct app *app, const struct request *req)
{
    CLEANUP(buffer_done) struct buffer plot = BUFFER_MAX(PLOT_BYTES_MAX);
    const bool svg = string_ends_with(req->path, ".svg");
    struct error err = {0};

    if (!pipeline_plot(app->pipeline, &req->context, NULL, svg ? PLOT_SVG : PLOT_PNG, &plot, &err))
        return reply_error(&err);
    struct reply reply = reply_buffer(200, svg ? "image/svg+xml" : "image/png", &plot);
    reply_add_header(&reply, "Cache-Control", "no-store");
    reply_add_header(&reply, "X-Content-Type-Options", "nosniff");
    reply_add_header(&reply, "Content-Security-Policy",
                     "default-src 'none'; style-src 'unsafe-inline'; sandbox");
    return reply;
}
