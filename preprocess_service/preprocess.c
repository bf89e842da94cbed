#include "preprocess.h"

#include "base/clock.h"
#include "transform.h"

#include <string.h>

static bool store_image(const struct app *app, const struct context *ctx,
                        const struct preprocessed *object, struct bytes data, bool *existed,
                        struct error *err)
{
    double started = clock_monotonic_s();
    bool ok = store_put(app->service.store,
                        &(struct store_put){
                            .key = object->key,
                            .data = data,
                            .owner = ctx->who,
                            .content_type = image_format_content_type(object->name.format),
                            .if_absent = true,
                            .deadline_ms = ctx->deadline_ms,
                        },
                        existed, err);

    stage_took(ctx->stages, STAGE_STORE, clock_monotonic_s() - started);
    return ok;
}

/* Announce and list: the row is durable by the event's commit, where that is a file's. */
static bool announce(const struct app *app, const struct context *ctx, struct preprocessed *object,
                     bool created, struct error *err)
{
    const struct catalogue_upload upload = {
        .name = object->name,
        .owner = ctx->who,
        .width = object->width,
        .height = object->height,
        .bytes = object->bytes,
        .created = created,
    };
    CLEANUP_FREE char *record =
        app->catalogue != NULL ? catalogue_record(app->catalogue, &upload) : NULL;
    int64_t record_seq = 0;
    const struct event event = {
        .gcs_path = object->uri,
        .id = object->name.id,
        .content_type = image_format_content_type(object->name.format),
        .traceparent = ctx->traceparent,
        .record = record,
        .record_seq = &record_seq,
    };
    double started = clock_monotonic_s();
    bool ok = app->publisher->publish(app->publisher, &event, ctx->deadline_ms, object->message_id,
                                      err) &&
              (app->catalogue == NULL ||
               catalogue_add(app->catalogue, &upload, record_seq, ctx->deadline_ms, err));

    stage_took(ctx->stages, STAGE_PUBLISH, clock_monotonic_s() - started);
    return ok;
}

/* Store, announce and list. Then look whether the object is still there: a DELETE of another upload
 * of this picture may have come between. If it is gone, all is done again. */
static bool keep(const struct app *app, const struct context *ctx, struct preprocessed *object,
                 struct bytes data, struct error *err)
{
    for (;;) {
        int64_t deletions = app->catalogue != NULL ? catalogue_deletions(app->catalogue) : 0;
        bool existed = false;
        if (!store_image(app, ctx, object, data, &existed, err) ||
            !announce(app, ctx, object, !existed, err))
            return false;
        if (app->catalogue == NULL ||
            (!existed && catalogue_deletions(app->catalogue) == deletions) ||
            store_head(app->service.store, object->key, ctx->deadline_ms, NULL, err))
            return true;
        if (err->code != ERROR_NOT_FOUND)
            return false;
    }
}

static bool decide_seal(const struct app *app, bool asked, bool *ret, struct error *err)
{
    const struct settings *s = &app->service.settings;

    *ret = asked || strcmp(s->seal, "always") == 0;
    return !*ret || *s->seal_keys_file != '\0' ||
           error_set(err, ERROR_BAD_REQUEST, "seal: this service has no SEAL_KEYS_FILE");
}

bool preprocess(const struct app *app, const struct context *ctx, struct bytes file,
                const struct image_options *options, bool seal, struct preprocessed *ret,
                struct error *err)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    struct store *store = app->service.store;

    *ret = (struct preprocessed){.name.format = options->format};
    if (!decide_seal(app, seal, &ret->name.sealed, err) ||
        !content_id(options, ret->name.sealed ? ctx->who : NULL, file, ret->name.id, err) ||
        !object_key(store_prefix(store), &ret->name, ret->key, sizeof(ret->key), err) ||
        !store_uri(store, ret->key, ret->uri, err) ||
        !transform_image(app, ctx, file, options, &image, err))
        return false;
    ret->width = image.width;
    ret->height = image.height;
    ret->bytes = image.len;
    return keep(app, ctx, ret, bytes_of(image.data, image.len), err);
}
