#include "preprocess.h"

#include "base/clock.h"
#include "objects/object_name.h"
#include "transform.h"

static bool store_image(const struct app *app, const struct context *ctx,
                        const struct preprocessed *object, struct bytes data, struct error *err)
{
    double started = clock_monotonic_s();
    bool ok = store_put(app->service.store,
                        &(struct store_put){
                            .key = object->key,
                            .data = data,
                            .content_type = image_format_content_type(object->format),
                            .if_absent = true,
                            .deadline_ms = ctx->deadline_ms,
                        },
                        NULL, err);

    stage_took(ctx->stages, STAGE_STORE, clock_monotonic_s() - started);
    return ok;
}

static bool announce(const struct app *app, const struct context *ctx, struct preprocessed *object,
                     struct error *err)
{
    const struct event event = {
        .gcs_path = object->uri,
        .id = object->id,
        .content_type = image_format_content_type(object->format),
        .traceparent = ctx->traceparent,
    };
    double started = clock_monotonic_s();
    bool ok =
        app->publisher->publish(app->publisher, &event, ctx->deadline_ms, object->message_id, err);

    stage_took(ctx->stages, STAGE_PUBLISH, clock_monotonic_s() - started);
    return ok;
}

bool preprocess(const struct app *app, const struct context *ctx, struct bytes file,
                const struct image_options *options, struct preprocessed *ret, struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    struct store *store = app->service.store;

    *ret = (struct preprocessed){.format = options->format};
    if (!content_id(options, file, ret->id, err) ||
        !object_key(store_prefix(store), ret->id, ret->format, ret->key, sizeof(ret->key), err) ||
        !store_uri(store, ret->key, ret->uri, err) ||
        !transform_image(app, ctx, file, options, &image, err))
        return false;
    ret->width = image.width;
    ret->height = image.height;
    ret->bytes = image.len;
    return store_image(app, ctx, ret, bytes_of(image.data, image.len), err) &&
           announce(app, ctx, ret, err);
}
