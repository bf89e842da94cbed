/* The older image service: a picture of any kind in, turned or smoothed, an answer of the same
 * kind. Which kind a message has, common/grpc/proto/nlimage.proto says. */
#pragma once

#include "app.h"
#include "base/context.h"

struct nlimage {
    struct bytes data;
    bool color;
    int width, height;
};

/* Zero-initialise; done by nlimage_answer_done. */
struct nlimage_answer {
    struct bytes data; /* of one of those below, or of what came */
    int width, height;
    struct image_result file;
    struct buffer text;
    struct image_pixels pixels;
    struct byte_budget *budget;
    int64_t charged;
};

/* `options` have the operation: at most one, and nothing else. ERROR_BAD_REQUEST: none of the
 * kinds. Errors of transform_image_within, and of transform_pixels. */
bool nlimage_operate(const struct app *app, const struct context *ctx, const struct nlimage *in,
                     const struct image_options *options, struct nlimage_answer *ret,
                     struct error *err) NODISCARD;
void nlimage_answer_done(struct nlimage_answer *answer);
