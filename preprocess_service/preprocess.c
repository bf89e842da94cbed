#include "preprocess.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "objects/content_id.h"
#include "objects/object_name.h"

struct transform_job {
    struct image_job image;
    struct image_result *result;
};

static bool run_transform(void *worker, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct transform_job *job = arg;

    job->image.cancelled = cancelled;
    if (!image_worker_transform(worker, &job->image, job->result, err))
        return false;
    const struct image_stages *stages = &job->result->stages;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"decode\"", stages->decode);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"transform\"", stages->transform);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"encode\"", stages->encode);
    return true;
}

static bool transform(const struct app *app, const struct context *ctx, struct bytes file,
                      const struct image_options *options, struct image_result *ret,
                      struct error *err)
{
    struct transform_job transform = {
        .image = {.data = file,
                  .options = options,
                  .deadline_ms = ctx->deadline_ms,
                  .request_id = ctx->id},
        .result = ret,
    };
    struct image_cost cost;

    /* refuse by the header what would be refused, without waiting for a worker */
    return image_precheck(file, options, &app->service.images.limits, &cost, err) &&
           worker_pool_run(app->service.pool,
                           &(struct pool_job){.run = run_transform,
                                              .arg = &transform,
                                              .large = cost.large,
                                              .memory = cost.memory},
                           ctx->deadline_ms, err);
}

static bool store_image(const struct app *app, const struct context *ctx,
                        const struct preprocessed *object, struct bytes data, struct error *err)
{
    double started = clock_monotonic_s();
    bool ok = store_put(app->service.store,
                        &(struct store_put){
                            .key = object->key,
                            .data = data,
                            .content_type = image_format_content_type(object->format),
                            .if_absent = true,
                            .deadline_ms = ctx->deadline_ms,
                        },
                        NULL, err);

    metric_observe(METRIC_STAGE_DURATION, "stage=\"store\"", clock_monotonic_s() - started);
    return ok;
}

static bool announce(const struct app *app, const struct context *ctx, struct preprocessed *object,
                     struct error *err)
{
    const struct event event = {
        .gcs_path = object->uri,
        .id = object->id,
        .content_type = image_format_content_type(object->format),
        .traceparent = ctx->traceparent,
    };
    double started = clock_monotonic_s();
    bool ok =
        app->publisher->publish(app->publisher, &event, ctx->deadline_ms, object->message_id, err);

    metric_observe(METRIC_STAGE_DURATION, "stage=\"publish\"", clock_monotonic_s() - started);
    return ok;
}

bool preprocess(const struct app *app, const struct context *ctx, struct bytes file,
                const struct image_options *options, struct preprocessed *ret, struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    struct store *store = app->service.store;

    *ret = (struct preprocessed){.format = options->format};
    if (!content_id(options, file, ret->id, err) ||
        !object_key(store_prefix(store), ret->id, ret->format, ret->key, sizeof(ret->key), err) ||
        !store_uri(store, ret->key, ret->uri, err) ||
        !transform(app, ctx, file, options, &image, err))
        return false;
    ret->width = image.width;
    ret->height = image.height;
    ret->bytes = image.len;
    return store_image(app, ctx, ret, bytes_of(image.data, image.len), err) &&
           announce(app, ctx, ret, err);
}
