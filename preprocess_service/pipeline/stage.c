#include "stage.h"

#include "../transform.h"
#include "base/json.h"
#include "base/strings.h"
#include "client/http_client.h"
#include "grpc/remote.h"
#include "http/image_data.h"
#include "image_pipeline.pb-c.h"

#include <string.h>

/* `option` and `value`: what the stage is to POST /transform; NULL: the picture goes on as it is.
 */
static const struct {
    const char *name, *method, *option, *value;
} stages[PIPELINE_STAGES] = {
    [PIPELINE_UPLOAD] = {"Uploader", "/image_pipeline.ImageUploader/Upload", NULL, NULL},
    [PIPELINE_REDUCE] = {"Noise Reduction", "/image_pipeline.NoiseReducer/Reduce", "median", "5"},
    [PIPELINE_REMOVE] = {"Background Removal", "/image_pipeline.BackgroundRemover/Remove",
                         "remove_background", "1"},
    [PIPELINE_CLASSIFY] = {"Classifier", "/image_pipeline.ImageClassifier/Classify", NULL, NULL},
};

const char *stage_name(enum pipeline_stage stage)
{
    return stages[stage].name;
}

struct stage_place stage_place(const struct settings *s, enum pipeline_stage stage)
{
    const struct {
        const char *url, *address;
    } places[PIPELINE_STAGES] = {
        [PIPELINE_UPLOAD] = {s->uploader_url, s->uploader_addr},
        [PIPELINE_REDUCE] = {s->noise_url, s->noise_addr},
        [PIPELINE_REMOVE] = {s->background_url, s->background_addr},
        [PIPELINE_CLASSIFY] = {s->classifier_url, s->classifier_addr},
    };

    if (*places[stage].address != '\0')
        return (struct stage_place){places[stage].address, true};
    return (struct stage_place){*places[stage].url != '\0' ? places[stage].url : NULL, false};
}

bool stage_run_here(const struct app *app, const struct context *ctx, enum pipeline_stage stage,
                    struct stage_work *work, struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    struct image_options options = image_options_default();

    if (stages[stage].option == NULL)
        return true;
    if (!image_options_set(&options, "fit", "none", err) ||
        !image_options_set(&options, "format", "png", err) ||
        !image_options_set(&options, stages[stage].option, stages[stage].value, err) ||
        !transform_image(app, ctx, buffer_view(&work->picture), &options, &image, err))
        return false;
    buffer_done(&work->picture);
    work->picture = (struct buffer)BUFFER_MAX(image.len);
    return transform_take_bytes(&image, &work->picture, err);
}

/* ---- elsewhere, by REST ---- */

/* Why it was refused: {"detail": "…"}, as both their services and ours say it. */
static void set_refusal(const struct http_reply *reply, struct error *err)
{
    const bool again = reply->status >= 500 || reply->status == 408 || reply->status == 429;
    struct error ignored;
    json_t *json = reply->body.len <= IMAGE_DATA_REST_MAX
                       ? json_read(buffer_view(&reply->body), 0, &ignored)
                       : NULL;
    const char *detail = json_string_value(json_object_get(json, "detail"));

    error_set(err, again ? ERROR_UNAVAILABLE : ERROR_BAD_REQUEST, "HTTP %ld%s%s", reply->status,
              detail != NULL ? ": " : "", detail != NULL ? detail : "");
    json_decref(json);
}

static bool take_label(const char *label, struct stage_work *work, struct error *err)
{
    if (label == NULL || *label == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "the reply has no label");
    utf8_copy(work->label, sizeof(work->label), label);
    return true;
}

static bool take_reply(enum pipeline_stage stage, struct image_data *reply, struct stage_work *work,
                       struct error *err)
{
    if (stage == PIPELINE_CLASSIFY)
        return take_label(json_string_value(json_object_get(reply->object, "label")), work, err);
    if (reply->picture.len > 0) { /* else, as with them, the picture goes on as it is */
        buffer_done(&work->picture);
        work->picture = reply->picture;
        reply->picture = (struct buffer){0};
    }
    return true;
}

static bool write_body(enum pipeline_stage stage, const struct stage_work *work, struct buffer *out,
                       struct error *err)
{
    const struct image_member picture = {"image_data", buffer_view(&work->picture)};

    *out = (struct buffer)BUFFER_MAX(image_data_size(picture.picture.len));
    return image_data_write(
        stage == PIPELINE_UPLOAD ? json_pack("{s:s}", "file_name", work->file_name) : json_object(),
        &picture, 1, out, err);
}

static bool call_by_rest(const struct app *app, const struct context *ctx,
                         enum pipeline_stage stage, const char *url, struct stage_work *work,
                         struct error *err)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    CLEANUP(buffer_done) struct buffer body = {0};
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    CLEANUP(image_data_done) struct image_data data = {0};

    if (!write_body(stage, work, &body, err))
        return false;
    if (!http_client_call(
            app->service.outgoing.client,
            &(struct http_call){
                .method = "POST",
                .url = url,
                .headers = headers,
                .body = buffer_view(&body),
                .deadline_ms = ctx->deadline_ms,
                .gone = ctx->gone,
                .max_reply_bytes = image_data_size((size_t)app->service.settings.max_body_bytes),
            },
            &reply, err))
        return false;
    if (reply.status / 100 != 2) {
        set_refusal(&reply, err);
        return false;
    }
    buffer_done(&body); /* before there is a third copy of a picture */
    return image_data_parse(buffer_view(&reply.body), ctx->budget, &data, err) &&
           take_reply(stage, &data, work, err);
}

/* ---- elsewhere, by gRPC ---- */

/* A picture for a picture: on the wire the messages of Reduce and Remove are those of Upload
 * without a name. */
static bool call_for_picture(struct http_client *client, const struct grpc_remote *call,
                             const char *file_name, struct stage_work *work, struct error *err)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    ImagePipeline__UploadRequest in = IMAGE_PIPELINE__UPLOAD_REQUEST__INIT;

    in.image_data = grpc_bytes(buffer_view(&work->picture));
    in.file_name = grpc_text(file_name);
    if (!grpc_remote_call(client, call, &in.base, &image_pipeline__upload_response__descriptor, &m,
                          err))
        return false;
    const ImagePipeline__UploadResponse *out = (const ImagePipeline__UploadResponse *)m.message;
    const size_t len = out->image_data.len;
    if (len == 0)
        return true;
    buffer_done(&work->picture);
    work->picture = (struct buffer)BUFFER_MAX(len);
    return buffer_append(&work->picture, out->image_data.data, len, err);
}

static bool call_for_label(struct http_client *client, const struct grpc_remote *call,
                           struct stage_work *work, struct error *err)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    ImagePipeline__ClassifyRequest in = IMAGE_PIPELINE__CLASSIFY_REQUEST__INIT;

    in.image_data = grpc_bytes(buffer_view(&work->picture));
    if (!grpc_remote_call(client, call, &in.base, &image_pipeline__classify_response__descriptor,
                          &m, err))
        return false;
    return take_label(((const ImagePipeline__ClassifyResponse *)m.message)->label, work, err);
}

static bool call_by_grpc(const struct app *app, const struct context *ctx,
                         enum pipeline_stage stage, const char *address, struct stage_work *work,
                         struct error *err)
{
    enum { OTHER_BYTES = 1024 };
    const struct grpc_remote call = {
        .address = address,
        .method = stages[stage].method,
        .deadline_ms = ctx->deadline_ms,
        .gone = ctx->gone,
        .max_reply_bytes = (size_t)app->service.settings.max_body_bytes + OTHER_BYTES,
        .budget = ctx->budget,
    };

    if (stage == PIPELINE_CLASSIFY)
        return call_for_label(app->service.outgoing.client, &call, work, err);
    return call_for_picture(app->service.outgoing.client, &call,
                            stage == PIPELINE_UPLOAD ? work->file_name : "", work, err);
}

bool stage_run_at(const struct app *app, const struct context *ctx, enum pipeline_stage stage,
                  const struct stage_place *place, struct stage_work *work, struct error *err)
{
    const int64_t cost = 2 * (int64_t)image_data_size(work->picture.len);

    if (!byte_budget_take(ctx->budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room for %lld bytes", (long long)cost);
    bool ok = (place->grpc ? call_by_grpc : call_by_rest)(app, ctx, stage, place->where, work, err);
    byte_budget_give(ctx->budget, cost);
    return ok;
}
