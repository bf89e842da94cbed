#include "stage.h"

#include "../transform.h"
#include "base/json.h"
#include "base/utf8.h"
#include "client/http_client.h"
#include "http/image_data.h"

#include <string.h>

/* `option` and `value`: what the stage is to POST /transform; NULL: the picture goes on as it is.
 */
static const struct {
    const char *name, *option, *value;
} stages[PIPELINE_STAGES] = {
    [PIPELINE_UPLOAD] = {"Uploader", NULL, NULL},
    [PIPELINE_REDUCE] = {"Noise Reduction", "median", "5"},
    [PIPELINE_REMOVE] = {"Background Removal", "remove_background", "1"},
    [PIPELINE_CLASSIFY] = {"Classifier", NULL, NULL},
};

const char *stage_name(enum pipeline_stage stage)
{
    return stages[stage].name;
}

const char *stage_url(const struct settings *s, enum pipeline_stage stage)
{
    const char *const urls[PIPELINE_STAGES] = {
        [PIPELINE_UPLOAD] = s->uploader_url,
        [PIPELINE_REDUCE] = s->noise_url,
        [PIPELINE_REMOVE] = s->background_url,
        [PIPELINE_CLASSIFY] = s->classifier_url,
    };

    return *urls[stage] != '\0' ? urls[stage] : NULL;
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

static bool take_reply(enum pipeline_stage stage, struct image_data *reply, struct stage_work *work,
                       struct error *err)
{
    if (stage == PIPELINE_CLASSIFY) {
        const char *label = json_string_value(json_object_get(reply->object, "label"));
        if (label == NULL || *label == '\0')
            return error_set(err, ERROR_BAD_REQUEST, "the reply has no label");
        utf8_copy(work->label, sizeof(work->label), label);
    } else if (reply->picture.len > 0) { /* else, as with them, the picture goes on as it is */
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

static bool call(const struct app *app, const struct context *ctx, enum pipeline_stage stage,
                 const char *url, struct stage_work *work, struct error *err)
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

bool stage_run_at(const struct app *app, const struct context *ctx, enum pipeline_stage stage,
                  const char *url, struct stage_work *work, struct error *err)
{
    const int64_t cost = 2 * (int64_t)image_data_size(work->picture.len);

    if (!byte_budget_take(ctx->budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room for %lld bytes", (long long)cost);
    bool ok = call(app, ctx, stage, url, work, err);
    byte_budget_give(ctx->budget, cost);
    return ok;
}
