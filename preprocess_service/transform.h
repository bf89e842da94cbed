/* A picture on the worker pool: what POST /preprocess stores and POST /transform answers with. */
#pragma once

#include "app.h"
#include "base/context.h"

/* Errors of image_precheck, worker_pool_run and image_transform. *ret is the caller's. */
bool transform_image(const struct app *app, const struct context *ctx, struct bytes file,
                     const struct image_options *options, struct image_result *ret,
                     struct error *err) NODISCARD;
/* The same with all channels of the file, of at most `max` bytes: where the format of the options
 * takes more, in the other one, at falling quality. ERROR_TOO_LARGE: none is small enough. */
struct transform_bound {
    size_t max;
    enum image_format lossy; /* IMAGE_JPEG, or IMAGE_WEBP, which has transparency */
};
bool transform_image_within(const struct app *app, const struct context *ctx, struct bytes file,
                            const struct image_options *options,
                            const struct transform_bound *bound, struct image_result *ret,
                            struct error *err) NODISCARD;

/* image_operate_pixels on the worker pool. What comes out is charged to the context's budget by the
 * caller. ERROR_TOO_LARGE: over IMAGE_DIMENSION_MAX or MAX_PIXELS. Errors of worker_pool_run. */
bool transform_pixels(const struct app *app, const struct context *ctx,
                      const struct image_pixels *pixels, const struct image_options *options,
                      struct image_pixels *ret, struct error *err) NODISCARD;

/* The picture's bytes, which become the caller's; *ret has room for them. ERROR_OVERLOADED: memory
 * is out. */
bool transform_take_bytes(struct image_result *image, struct buffer *ret,
                          struct error *err) NODISCARD;
