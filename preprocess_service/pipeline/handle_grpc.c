/* image_pipeline: the older pipeline's calls, but for its classifier, which is classify_service's.
 */
#include "../transform.h"
#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "grpc/message.h"
#include "handle.h"
#include "image_pipeline.pb-c.h"

#include <string.h>

enum {
    /* What gRPC's clients take unless they are told otherwise, less the other fields. */
    PICTURES_MAX = 4 * 1024 * 1024 - 2048,
};

/* Out of its message, which stays charged for it. */
static struct buffer take_picture(ProtobufCBinaryData *in)
{
    const struct buffer picture = {in->data, in->len, in->len, in->len};

    *in = (ProtobufCBinaryData){0};
    return picture;
}

/* protobuf-c does not look. */
static bool check_name(const char *name, struct error *err)
{
    return string_is_utf8(bytes_from_str(name)) ||
           error_set(err, ERROR_BAD_REQUEST, "file_name: not UTF-8");
}

/* A picture that replies have no room for, as WebP, which has transparency. */
static bool shrink(const struct app *app, const struct request *req, struct buffer *picture,
                   struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    struct image_options options = image_options_default();

    if (picture->len <= PICTURES_MAX)
        return true;
    if (!image_options_set(&options, "fit", "none", err) ||
        !image_options_set(&options, "format", "webp", err) ||
        !transform_image_within(app, &req->context, buffer_view(picture), &options,
                                &(struct transform_bound){PICTURES_MAX, IMAGE_WEBP}, &image, err))
        return false;
    buffer_done(picture);
    *picture = (struct buffer)BUFFER_MAX(image.len);
    return transform_take_bytes(&image, picture, err);
}

struct reply handle_grpc_upload(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    ImagePipeline__UploadResponse out = IMAGE_PIPELINE__UPLOAD_RESPONSE__INIT;
    struct error err = {0};

    (void)app;
    if (!grpc_message_read(&image_pipeline__upload_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const ImagePipeline__UploadRequest *in = (const ImagePipeline__UploadRequest *)m.message;
    if (!check_name(in->file_name, &err))
        return reply_error(&err);
    out.image_data = in->image_data;
    out.file_name = *in->file_name != '\0' ? in->file_name : grpc_text("uploaded_image.jpg");
    return grpc_reply(req, &out.base);
}

/* Reduce's and Remove's messages are alike. */
static struct reply handle_stage(const struct app *app, const struct request *req,
                                 enum pipeline_stage stage)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    CLEANUP(stage_work_done) struct stage_work work = {0};
    ImagePipeline__NoiseReductionResponse out = IMAGE_PIPELINE__NOISE_REDUCTION_RESPONSE__INIT;
    struct error err = {0};

    if (!grpc_message_read(&image_pipeline__noise_reduction_request__descriptor, req, &m, &err))
        return reply_error(&err);
    work.picture = take_picture(&((ImagePipeline__NoiseReductionRequest *)m.message)->image_data);
    if (!stage_run_here(app, &req->context, stage, &work, &err) ||
        !shrink(app, req, &work.picture, &err))
        return reply_error(&err);
    out.image_data = grpc_bytes(buffer_view(&work.picture));
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_reduce(const struct app *app, const struct request *req)
{
    return handle_stage(app, req, PIPELINE_REDUCE);
}

struct reply handle_grpc_remove(const struct app *app, const struct request *req)
{
    return handle_stage(app, req, PIPELINE_REMOVE);
}

/* What came out of the pipeline: a task and its picture, or why not. */
static bool process(const struct app *app, const struct request *req,
                    ImagePipeline__ProcessRequest *in, struct task *task, struct buffer *picture,
                    struct error *err)
{
    const char *name = *in->file_name != '\0' ? in->file_name : "unknown";
    CLEANUP(buffer_done) struct buffer sent = take_picture(&in->image_data);

    if (sent.len == 0)
        return error_set(err, ERROR_BAD_REQUEST, "No file or image_data provided");
    if (!check_name(name, err) ||
        !pipeline_run(app->pipeline, &req->context,
                      &(struct pipeline_upload){.file_name = name, .picture = &sent}, task, picture,
                      err))
        return false;
    if (task->state != TASK_DONE)
        return error_set(err, ERROR_BAD_REQUEST, "%s", task->error);
    return shrink(app, req, picture, err);
}

/* A client without a deadline waits for as long as a task may take. */
static struct request patient(const struct request *req)
{
    struct request ret = *req;

    if (request_header(req, "grpc-timeout") == NULL)
        ret.context.deadline_ms = clock_monotonic_ms() + PIPELINE_TASK_MAX_MS;
    return ret;
}

/* Its client prints the message of what failed, and takes any other status for a crash. */
struct reply handle_grpc_process(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    CLEANUP(buffer_done) struct buffer picture = {0}, plot = BUFFER_MAX(PLOT_BYTES_MAX);
    ImagePipeline__ProcessResponse out = IMAGE_PIPELINE__PROCESS_RESPONSE__INIT;
    const struct request waits = patient(req);
    const double began_s = clock_monotonic_s();
    struct task task;
    struct error err = {0};

    if (!grpc_message_read(&image_pipeline__process_request__descriptor, req, &m, &err))
        return reply_error(&err);
    out.success =
        process(app, &waits, (ImagePipeline__ProcessRequest *)m.message, &task, &picture, &err);
    const double took_ms = (clock_monotonic_s() - began_s) * 1e3;
    CLEANUP_FREE char *message =
        out.success ? xasprintf("Image processed successfully! total=%.2fms", took_ms)
                    : xstrdup(error_public_detail(&err));
    out.message = message;
    out.response_time_ms = (float)took_ms;
    if (out.success) {
        out.processed_image_data = grpc_bytes(buffer_view(&picture));
        out.classification_label = task.label;
        draw_plot(app, &waits, &task, &plot);
        if (plot.len > 0 && plot.len + picture.len <= PICTURES_MAX) {
            out.timeline_plot_image = grpc_bytes(buffer_view(&plot));
            out.timeline_plot_filename = grpc_text(PLOT_NAME);
        }
    }
    return grpc_reply(req, &out.base);
}
