#include "classify.h"

#include "base/clock.h"
#include "base/metrics.h"

struct classify_job {
    const struct app *app;
    struct bytes image;
    size_t k;
    double queued_s;
    struct labels *labels;
    struct error err;
    bool ok;
};

static void run(void *state, void *arg, const atomic_bool *cancelled)
{
    struct classify_job *job = arg;
    const struct model *model = job->app->model;
    const struct manifest *manifest = model_manifest(model);
    struct image_stages stages;
    const float *scores;

    double started = clock_monotonic_s();
    metric_observe(METRIC_STAGE_DURATION, "stage=\"queue\"", started - job->queued_s);
    job->ok = image_to_tensor(job->image, &manifest->input, &job->app->limits, cancelled,
                              model_input(state), &stages, &job->err);
    if (!job->ok)
        return;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"decode\"", stages.decode);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"transform\"", stages.transform);
    started = clock_monotonic_s();
    job->ok = model_run(model, state, &scores, &job->err);
    if (!job->ok)
        return;
    labels_pick(manifest, scores, job->k, job->labels);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"infer\"", clock_monotonic_s() - started);
}

bool classify_image(const struct app *app, const struct request *req, struct bytes image, size_t k,
                    struct labels *ret, struct error *err)
{
    struct classify_job job = {
        .app = app, .image = image, .k = k, .queued_s = clock_monotonic_s(), .labels = ret};

    /* the header tells what would be refused: no need to wait for a worker to hear it */
    if (!image_precheck(image, &app->limits, err) ||
        !worker_pool_run(app->service.pool, &(struct worker_job){.run = run, .arg = &job},
                         req->deadline_ms, err))
        return false;
    if (!job.ok)
        *err = job.err;
    return job.ok;
}

bool fetch_info(const struct request *req, const struct object *object, struct fetched *ret,
                struct error *err)
{
    *ret = (struct fetched){.budget = req->budget};
    return store_head(object->store, object->key, req->deadline_ms, &ret->info, err);
}

bool fetch_data(const struct app *app, const struct request *req, const struct object *object,
                struct fetched *fetched, struct error *err)
{
    const int64_t max = app->service.settings.max_body_bytes;
    const uint64_t size = fetched->info.size;
    struct store_info info = {0}; /* of the bytes that are read: the object may be replaced */
    double started = clock_monotonic_s();

    if (size > (uint64_t)max)
        return error_set(err, ERROR_TOO_LARGE, "the object is larger than %lld bytes",
                         (long long)max);
    if (!byte_budget_take(req->budget, (int64_t)size))
        return error_set(err, ERROR_OVERLOADED, "no room for %llu bytes", (unsigned long long)size);
    fetched->charged = (int64_t)size;
    if (!store_get(object->store,
                   &(struct store_get){.key = object->key,
                                       .max_bytes = (size_t)size,
                                       .deadline_ms = req->deadline_ms},
                   &fetched->data, &info, err))
        return err->code == ERROR_TOO_LARGE
                   ? error_set(err, ERROR_UNAVAILABLE, "the object grew while it was read")
                   : false;
    store_info_done(&fetched->info);
    fetched->info = info;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"fetch\"", clock_monotonic_s() - started);
    return true;
}

void fetched_done(struct fetched *fetched)
{
    buffer_done(&fetched->data);
    store_info_done(&fetched->info);
    if (fetched->charged > 0)
        byte_budget_give(fetched->budget, fetched->charged);
    *fetched = (struct fetched){0};
}
