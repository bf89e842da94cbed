#include "classify.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

struct classify_job {
    const struct app *app;
    struct image_job image;
    const float *tensor; /* instead of an image */
    size_t k;
    struct labels *labels; /* one of the two */
    float *scores;
    struct stages *stages;
};

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static bool fill_input(struct classify_job *job, struct classifier *classifier, struct error *err)
{
    const struct manifest *manifest = model_manifest(job->app->model);
    struct image_tensor tensor = {.values = model_input(classifier->tensors)};

    if (job->tensor != NULL) {
        size_t count = manifest_input_count(manifest);
        memcpy(tensor.values, job->tensor, count * sizeof(float));
        return all_finite(job->tensor, count) ||
               error_set(err, ERROR_BAD_REQUEST, "the tensor has a NaN or infinite value");
    }
    if (!image_worker_to_tensor(classifier->images, &job->image, &manifest->input, &tensor, err))
        return false;
    stage_took(job->stages, STAGE_DECODE, tensor.stages.decode);
    stage_took(job->stages, STAGE_TRANSFORM, tensor.stages.transform);
    return true;
}

static bool take_scores(struct classify_job *job, const float *scores, struct error *err)
{
    const struct manifest *manifest = model_manifest(job->app->model);

    if (job->labels != NULL) {
        labels_pick(manifest, scores, job->k, job->labels);
        return true;
    }
    memcpy(job->scores, scores, manifest->label_count * sizeof(float));
    return all_finite(scores, manifest->label_count) ||
           error_set(err, ERROR_BAD_REQUEST, "the tensor gives NaN or infinite scores");
}

static bool run(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct classifier *classifier = state;
    struct classify_job *job = arg;
    const float *scores;

    job->image.cancelled = cancelled;
    if (!fill_input(job, classifier, err))
        return false;
    double started = clock_monotonic_s();
    bool ok = model_run(job->app->model, classifier->tensors, &scores, err) &&
              take_scores(job, scores, err);
    stage_took(job->stages, STAGE_INFER, clock_monotonic_s() - started);
    return ok;
}

static bool run_job(const struct context *ctx, struct classify_job *classify, struct error *err)
{
    const struct app *app = classify->app;
    struct pool_job job = {.run = run, .arg = classify, .gone = ctx->gone, .stages = ctx->stages};
    struct image_cost cost = {0};

    classify->stages = ctx->stages;
    classify->image.deadline_ms = ctx->deadline_ms;
    classify->image.request_id = ctx->id;
    /* refuse by the header what would be refused, without waiting for a worker */
    if (classify->tensor == NULL &&
        !image_precheck(classify->image.data, NULL, &app->service.images.limits, &cost, err))
        return false;
    job.large = cost.large;
    job.memory = cost.memory;
    return worker_pool_run(app->service.pool, &job, ctx->deadline_ms, err);
}

bool classify_image(const struct app *app, const struct context *ctx, struct bytes image, size_t k,
                    struct labels *ret, struct error *err)
{
    struct classify_job job = {.app = app, .image.data = image, .k = k, .labels = ret};

    return run_job(ctx, &job, err);
}

bool classify_scores(const struct app *app, const struct context *ctx, struct bytes image,
                     const float *tensor, float *scores, struct error *err)
{
    struct classify_job job = {.app = app, .image.data = image, .tensor = tensor, .scores = scores};

    return run_job(ctx, &job, err);
}

bool fetch_info(const struct context *ctx, const struct object *object, struct fetched *ret,
                struct error *err)
{
    *ret = (struct fetched){.budget = ctx->budget};
    return store_head(object->store, object->key, ctx->deadline_ms, &ret->info, err);
}

bool fetch_data(const struct app *app, const struct context *ctx, const struct object *object,
                struct fetched *fetched, struct error *err)
{
    const int64_t max = app->service.settings.max_body_bytes;
    const uint64_t size = fetched->info.size;
    double started = clock_monotonic_s();

    if (size > (uint64_t)max)
        return error_set(err, ERROR_TOO_LARGE, "the object is larger than %lld bytes",
                         (long long)max);
    if (!byte_budget_take(ctx->budget, (int64_t)size))
        return error_set(err, ERROR_OVERLOADED, "no room for %llu bytes", (unsigned long long)size);
    fetched->charged = (int64_t)size;
    /* info of the bytes that are read: the object may have been replaced */
    if (!store_get(object->store,
                   &(struct store_get){.key = object->key,
                                       .max_bytes = (size_t)size,
                                       .deadline_ms = ctx->deadline_ms},
                   &fetched->data, &fetched->info, err))
        return err->code == ERROR_TOO_LARGE
                   ? error_set(err, ERROR_UNAVAILABLE, "the object grew while it was read")
                   : false;
    stage_took(ctx->stages, STAGE_FETCH, clock_monotonic_s() - started);
    return true;
}

void fetched_done(struct fetched *fetched)
{
    buffer_done(&fetched->data);
    if (fetched->charged > 0)
        byte_budget_give(fetched->budget, fetched->charged);
    *fetched = (struct fetched){0};
}
