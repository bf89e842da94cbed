#include "transform.h"

#include "background.h"

struct transform_job {
    struct image_job image;
    struct image_result *result;
    struct stages *stages;
    struct background *background; /* NULL: no model is needed */
    struct worker_pool *pool;      /* that it runs on */
};

static bool run(void *worker, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct transform_job *job = arg;
    CLEANUP(background_end) struct mask_search search = {0};

    job->image.cancelled = cancelled;
    job->image.threads = 1 + worker_pool_spare(job->pool);
    if (job->background != NULL) {
        if (!background_begin(job->background, job->stages, &search, err))
            return false;
        job->image.mask_finder = &search.finder;
    }
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
    const bool cut_out = image_options_cut_out(options);
    struct transform_job what = {
        .image = {.data = file,
                  .options = options,
                  .deadline_ms = ctx->deadline_ms,
                  .request_id = ctx->id},
        .result = ret,
        .stages = ctx->stages,
        .background = cut_out ? app->background : NULL,
        .pool = app->service.pool,
    };
    struct pool_job job = {
        .run = run, .arg = &what, .gone = ctx->gone, .stages = ctx->stages, .scarce = cut_out};
    struct image_cost cost;

    if (cut_out && app->background == NULL)
        return error_set(err, ERROR_BAD_REQUEST,
                         "remove_background: is off on this server (REMOVE_BACKGROUND)");
    /* refuse by the header what would be refused, without waiting for a worker */
    if (!image_precheck(file, options, &app->service.images.limits, &cost, err))
        return false;
    job.large = cost.large;
    job.memory = cost.memory;
    return worker_pool_run(app->service.pool, &job, ctx->deadline_ms, err);
}

bool transform_image_within(const struct app *app, const struct context *ctx, struct bytes file,
                            const struct image_options *options,
                            const struct transform_bound *bound, struct image_result *ret,
                            struct error *err)
{
    static const int qualities[] = {90, 75, 50, 25};
    struct image_options o = *options;

    o.keep_channels = true;
    for (size_t i = 0;; i++) {
        if (!transform_image(app, ctx, file, &o, ret, err))
            return false;
        if (ret->len <= bound->max)
            return true;
        image_result_done(ret);
        if (i == ARRAY_SIZE(qualities))
            break;
        o.format = bound->lossy;
        o.quality = qualities[i];
    }
    return error_set(err, ERROR_TOO_LARGE,
                     "the picture takes more than %zu bytes in every format: send a smaller one",
                     bound->max);
}

struct pixels_job {
    struct image_input input; /* how, not what */
    const struct image_pixels *pixels;
    const struct image_options *options;
    struct image_pixels *ret;
};

static bool run_pixels(void *worker, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct pixels_job *job = arg;

    (void)worker;
    job->input.cancelled = cancelled;
    return image_operate_pixels(&job->input, job->pixels, job->options, job->ret, err);
}

bool transform_pixels(const struct app *app, const struct context *ctx,
                      const struct image_pixels *pixels, const struct image_options *options,
                      struct image_pixels *ret, struct error *err)
{
    enum { LARGE_PIXELS = 4000000 };
    const struct image_size *size = &pixels->size;
    const int64_t count = (int64_t)size->width * size->height;
    struct pixels_job what = {{.threads = 1}, pixels, options, ret};
    const struct pool_job job = {.run = run_pixels,
                                 .arg = &what,
                                 .large = count >= LARGE_PIXELS,
                                 .gone = ctx->gone,
                                 .stages = ctx->stages};

    if (size->width > IMAGE_DIMENSION_MAX || size->height > IMAGE_DIMENSION_MAX ||
        count > app->service.images.limits.max_pixels)
        return error_set(err, ERROR_TOO_LARGE,
                         "the picture has %d x %d pixels: send at most %d a side, %lld in all",
                         size->width, size->height, IMAGE_DIMENSION_MAX,
                         (long long)app->service.images.limits.max_pixels);
    return worker_pool_run(app->service.pool, &job, ctx->deadline_ms, err);
}

bool transform_take_bytes(struct image_result *image, struct buffer *ret, struct error *err)
{
    if (image->release != free) /* libvips has an allocator of its own */
        return buffer_append(ret, image->data, image->len, err);
    ret->data = TAKE_PTR(image->data);
    ret->len = ret->cap = image->len;
    return true;
}
