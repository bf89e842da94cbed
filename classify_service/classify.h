/* Image bytes to labels, on the worker pool. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "model/outputs.h"

/* What a worker keeps from job to job. */
struct classifier {
    struct model_tensors *tensors;
    struct image_worker *images;
};

/* Classify an image; the k best labels go to *ret. Errors of image_precheck, worker_pool_run and
 * image_worker_to_tensor. */
bool classify_image(const struct app *app, const struct context *ctx, struct bytes image, size_t k,
                    struct labels *ret, struct error *err) NODISCARD;

/* The scores of an image, or of a tensor that is made already (model_input's floats; `image` is
 * then ignored, otherwise `tensor` is NULL): one float for each label. Also ERROR_BAD_REQUEST: the
 * tensor or its scores are not finite. */
bool classify_scores(const struct app *app, const struct context *ctx, struct bytes image,
                     const float *tensor, float *scores, struct error *err) NODISCARD;

/* An object, in two steps: fetch_info asks what it is, fetch_data reads it whole, its
 * bytes charged to the request's budget until fetched_done. */
struct fetched {
    struct buffer data;
    struct store_info info;
    struct byte_budget *budget;
    int64_t charged;
};
bool fetch_info(const struct context *ctx, const struct object *object, struct fetched *ret,
                struct error *err) NODISCARD;
bool fetch_data(const struct app *app, const struct context *ctx, const struct object *object,
                struct fetched *fetched, struct error *err) NODISCARD;
void fetched_done(struct fetched *fetched);
