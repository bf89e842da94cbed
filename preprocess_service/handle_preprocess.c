/* POST /preprocess: upload in, object and event out, then the reply. Nothing is promised before
 * both are durable. */
#include "app.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "http/upload.h"
#include "objects/content_id.h"
#include "objects/object_name.h"

struct transform_job {
    struct image_work work;
    const struct image_options *options;
    double queued_s;
    struct image_result result;
    struct error err;
    bool ok;
};

static void transform(void *state, void *arg, const atomic_bool *cancelled)
{
    struct transform_job *job = arg;

    job->work.cancelled = cancelled;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"queue\"", clock_monotonic_s() - job->queued_s);
    job->ok = image_slot_transform(state, &job->work, job->options, &job->result, &job->err);
    if (!job->ok)
        return;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"decode\"", job->result.stages.decode);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"transform\"", job->result.stages.transform);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"encode\"", job->result.stages.encode);
}

static bool run_transform(const struct app *app, const struct request *req, struct bytes file,
                          const struct image_options *options, struct image_result *ret,
                          struct error *err)
{
    struct transform_job job = {
        .work = {.data = file, .deadline_ms = req->deadline_ms, .request_id = req->id},
        .options = options,
        .queued_s = clock_monotonic_s(),
    };
    struct worker_job work = {.run = transform, .arg = &job};

    /* the header tells what would be refused: no need to wait for a worker to hear it */
    if (!image_precheck(file, options, &app->service.images.limits, &work.large, err) ||
        !worker_pool_run(app->service.pool, &work, req->deadline_ms, err))
        return false;
    if (job.ok)
        *ret = job.result;
    else
        *err = job.err;
    return job.ok;
}

static bool store_result(const struct app *app, const struct request *req, const char *key,
                         const struct image_options *options, const struct image_result *result,
                         struct error *err)
{
    double started = clock_monotonic_s();
    bool ok = store_put(app->service.store,
                        &(struct store_put){
                            .key = key,
                            .data = bytes_of(result->data, result->len),
                            .content_type = image_format_content_type(options->format),
                            .if_absent = true,
                            .deadline_ms = req->deadline_ms,
                        },
                        NULL, err);

    metric_observe(METRIC_STAGE_DURATION, "stage=\"store\"", clock_monotonic_s() - started);
    return ok;
}

static bool announce(const struct app *app, const struct request *req, const struct event *event,
                     char message_id[MESSAGE_ID_MAX], struct error *err)
{
    double started = clock_monotonic_s();
    bool ok = app->publisher->publish(app->publisher, event, req->deadline_ms, message_id, err);

    metric_observe(METRIC_STAGE_DURATION, "stage=\"publish\"", clock_monotonic_s() - started);
    return ok;
}

static struct reply reply_stored(const struct app *app, const struct image_options *options,
                                 const struct image_result *result, const struct event *event,
                                 const char *message_id)
{
    const char *base = app->service.settings.results_base_url;
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:s, s:I}", "gcs_path", event->gcs_path, "message_id",
                  message_id, "id", event->id, "width", result->width, "height", result->height,
                  "format", image_format_name(options->format), "bytes", (json_int_t)result->len);

    if (json != NULL && *base != '\0')
        json_object_set_new(json, "result_url", json_sprintf("%s/results/%s", base, event->id));
    return reply_json(200, json);
}

static bool set_option(void *options, const char *name, const char *value, struct error *err)
{
    return image_options_set(options, name, value, err);
}

struct reply handle_preprocess(const struct app *app, const struct request *req)
{
    struct error err = {0};
    struct upload upload;
    struct image_options options = image_options_default();
    CLEANUP(image_result_done) struct image_result result = {0};
    char id[SHA256_HEX_LEN + 1], key[STORE_KEY_MAX + 1], uri[STORE_URI_MAX];
    char message_id[MESSAGE_ID_MAX];

    if (!upload_read(req, &upload, &err) ||
        !upload_options(req, &upload, set_option, &options, &err) ||
        !image_options_check(&options, &err))
        return reply_error(&err);
    if (!content_id(&options, upload.file, id, &err) ||
        !object_key(store_prefix(app->service.store), id, options.format, key, sizeof(key), &err) ||
        !store_uri(app->service.store, key, uri, &err))
        return reply_error(&err);
    if (!run_transform(app, req, upload.file, &options, &result, &err) ||
        !store_result(app, req, key, &options, &result, &err))
        return reply_error(&err);
    struct event event = {
        .gcs_path = uri,
        .id = id,
        .content_type = image_format_content_type(options.format),
        .traceparent = req->traceparent,
    };
    if (!announce(app, req, &event, message_id, &err))
        return reply_error(&err);
    return reply_stored(app, &options, &result, &event, message_id);
}
