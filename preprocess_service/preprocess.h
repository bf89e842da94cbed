/* The use case of POST /preprocess, whichever protocol it comes by: name the object, transform the
 * picture, store it, announce it. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "base/strings.h"

struct preprocessed {
    char id[SHA256_HEX_LEN + 1];
    char key[STORE_KEY_MAX + 1];
    char uri[STORE_URI_MAX];
    char message_id[MESSAGE_ID_MAX]; /* of the event */
    int width, height;
    enum image_format format;
    size_t bytes;
};

/* On true the object and its event are durable. On false nothing is promised, and the same call may
 * be repeated. Errors of image_transform, worker_pool_run, store_put and the publisher. */
bool preprocess(const struct app *app, const struct context *ctx, struct bytes file,
                const struct image_options *options, struct preprocessed *ret,
                struct error *err) NODISCARD;
