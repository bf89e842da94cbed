/* A picture on the worker pool: what POST /preprocess stores and POST /transform answers with. */
#pragma once

#include "app.h"
#include "base/context.h"

/* Errors of image_precheck, worker_pool_run and image_transform. *ret is the caller's. */
bool transform_image(const struct app *app, const struct context *ctx, struct bytes file,
                     const struct image_options *options, struct image_result *ret,
                     struct error *err) NODISCARD;
/* The picture's bytes, which become the caller's; *ret has room for them. ERROR_OVERLOADED: memory
 * is out. */
bool transform_take_bytes(struct image_result *image, struct buffer *ret,
                          struct error *err) NODISCARD;
