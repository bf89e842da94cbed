/* The use case of POST /preprocess, whichever protocol it comes by: name the object, transform the
 * picture, store it, announce it. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "objects/object_name.h"

struct preprocessed {
    struct object_name name;
    char key[STORE_KEY_MAX + 1];
    char uri[STORE_URI_MAX];
    char message_id[MESSAGE_ID_MAX]; /* of the event */
    int width, height;
    size_t bytes;
};

/* `seal`: the object is encrypted, and one of the caller's own (common/store/sealed);
 * ERROR_BAD_REQUEST without SEAL_KEYS_FILE. SEAL=always seals all.
 *
 * On true the object and its event are durable. On false nothing is promised, and the same call may
 * be repeated. Errors of image_transform, worker_pool_run, store_put and the publisher. */
bool preprocess(const struct app *app, const struct context *ctx, struct bytes file,
                const struct image_options *options, bool seal, struct preprocessed *ret,
                struct error *err) NODISCARD;
