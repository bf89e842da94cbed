#include "classify.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <math.h>
#include <string.h>

struct classify_job {
    const struct app *app;
    struct image_work image;
    const float *tensor; /* instead of an image */
    size_t k;
    double queued_s;
    bool large;
    struct labels *labels; /* one of the two */
    float *scores;
    struct error err;
    bool ok;
};

static bool all_finite(const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static bool fill_input(struct classify_job *job, struct classify_worker *worker,
                       const atomic_bool *cancelled)
{
    const struct manifest *manifest = model_manifest(job->app->model);
    struct image_tensor tensor = {.values = model_input(worker->tensors)};

    if (job->tensor != NULL) {
        size_t count = manifest_input_count(manifest);
        memcpy(tensor.values, job->tensor, count * sizeof(float));
        return all_finite(job->tensor, count) ||
               error_set(&job->err, ERROR_BAD_REQUEST, "the tensor has a value that is no number");
    }
    job->image.cancelled = cancelled;
    if (!image_slot_to_tensor(worker->images, &job->image, &manifest->input, &tensor, &job->err))
        return false;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"decode\"", tensor.stages.decode);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"transform\"", tensor.stages.transform);
    return true;
}

static bool take_scores(struct classify_job *job, const float *scores)
{
    const struct manifest *manifest = model_manifest(job->app->model);

    if (job->labels != NULL) {
        labels_pick(manifest, scores, job->k, job->labels);
        return true;
    }
    memcpy(job->scores, scores, manifest->label_count * sizeof(float));
    return all_finite(scores, manifest->label_count) ||
           error_set(&job->err, ERROR_BAD_REQUEST, "the tensor gives scores that are no numbers");
}

static void run(void *state, void *arg, const atomic_bool *cancelled)
{
    struct classify_worker *worker = state;
    struct classify_job *job = arg;
    const float *scores;

    double started = clock_monotonic_s();
    metric_observe(METRIC_STAGE_DURATION, "stage=\"queue\"", started - job->queued_s);
    job->ok = fill_input(job, worker, cancelled);
    if (!job->ok)
        return;
    started = clock_monotonic_s();
    job->ok =
        model_run(job->app->model, worker->tensors, &scores, &job->err) && take_scores(job, scores);
    metric_observe(METRIC_STAGE_DURATION, "stage=\"infer\"", clock_monotonic_s() - started);
}

static bool run_job(const struct request *req, struct classify_job *job, struct error *err)
{
    struct worker_job work = {.run = run, .arg = job, .large = job->large};

    job->queued_s = clock_monotonic_s();
    job->image.deadline_ms = req->deadline_ms;
    job->image.request_id = req->id;
    if (!worker_pool_run(job->app->service.pool, &work, req->deadline_ms, err))
        return false;
    if (!job->ok)
        *err = job->err;
    return job->ok;
}

bool classify_image(const struct app *app, const struct request *req, struct bytes image, size_t k,
                    struct labels *ret, struct error *err)
{
    struct classify_job job = {.app = app, .image.data = image, .k = k, .labels = ret};

    /* the header tells what would be refused: no need to wait for a worker to hear it */
    return image_precheck(image, NULL, &app->service.images.limits, &job.large, err) &&
           run_job(req, &job, err);
}

bool classify_scores(const struct app *app, const struct request *req, struct bytes image,
                     const float *tensor, float *scores, struct error *err)
{
    struct classify_job job = {.app = app, .image.data = image, .tensor = tensor, .scores = scores};

    return (tensor != NULL ||
            image_precheck(image, NULL, &app->service.images.limits, &job.large, err)) &&
           run_job(req, &job, err);
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
    double started = clock_monotonic_s();

    if (size > (uint64_t)max)
        return error_set(err, ERROR_TOO_LARGE, "the object is larger than %lld bytes",
                         (long long)max);
    if (!byte_budget_take(req->budget, (int64_t)size))
        return error_set(err, ERROR_OVERLOADED, "no room for %llu bytes", (unsigned long long)size);
    fetched->charged = (int64_t)size;
    /* info of the bytes that are read: the object may have been replaced */
    if (!store_get(object->store,
                   &(struct store_get){.key = object->key,
                                       .max_bytes = (size_t)size,
                                       .deadline_ms = req->deadline_ms},
                   &fetched->data, &fetched->info, err))
        return err->code == ERROR_TOO_LARGE
                   ? error_set(err, ERROR_UNAVAILABLE, "the object grew while it was read")
                   : false;
    metric_observe(METRIC_STAGE_DURATION, "stage=\"fetch\"", clock_monotonic_s() - started);
    return true;
}

void fetched_done(struct fetched *fetched)
{
    buffer_done(&fetched->data);
    if (fetched->charged > 0)
        byte_budget_give(fetched->budget, fetched->charged);
    *fetched = (struct fetched){0};
}
