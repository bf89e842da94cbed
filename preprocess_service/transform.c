#include "transform.h"

struct transform_job {
    struct image_job image;
    struct image_result *result;
    struct stages *stages;
};

static bool run(void *worker, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct transform_job *job = arg;

    job->image.cancelled = cancelled;
    if (!image_worker_transform(worker, &job->image, job->result, err))
        return false;
    const struct image_stages *stages = &job->result->stages;
    stage_took(job->stages, STAGE_DECODE, stages->decode);
    stage_took(job->stages, STAGE_TRANSFORM, stages->transform);
    stage_took(job->stages, STAGE_ENCODE, stages->encode);
    return true;
}

bool transform_image(const struct app *app, const struct context *ctx, struct bytes file,
                     const struct image_options *options, struct image_result *ret,
                     struct error *err)
{
    struct transform_job what = {
        .image = {.data = file,
                  .options = options,
                  .deadline_ms = ctx->deadline_ms,
                  .request_id = ctx->id},
        .result = ret,
        .stages = ctx->stages,
    };
    struct pool_job job = {.run = run, .arg = &what, .stages = ctx->stages};
    struct image_cost cost;

    /* refuse by the header what would be refused, without waiting for a worker */
    if (!image_precheck(file, options, &app->service.images.limits, &cost, err))
        return false;
    job.large = cost.large;
    job.memory = cost.memory;
    return worker_pool_run(app->service.pool, &job, ctx->deadline_ms, err);
}
