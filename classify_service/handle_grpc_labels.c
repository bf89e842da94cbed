/* darkroom.v1.Labels: what POST /classify does, as a call. */
#include "base/xmalloc.h"
#include "classify.h"
#include "darkroom/v1/labels.pb-c.h"
#include "grpc/message.h"

#include <string.h>

typedef Darkroom__V1__ClassifyRequest request_message;
typedef Darkroom__V1__ClassifyResponse__Label label_message;

/* The image: in the message, or fetched from where it says. */
static bool read_image(const struct app *app, const struct request *req, const request_message *in,
                       struct fetched *fetched, struct bytes *ret, struct error *err)
{
    struct object object;

    if (in->source_case == DARKROOM__V1__CLASSIFY_REQUEST__SOURCE_IMAGE) {
        *ret = bytes_of(in->image.data, in->image.len);
        return ret->len > 0 || error_set(err, ERROR_UNSUPPORTED_MEDIA, "the image is empty");
    }
    if (in->source_case != DARKROOM__V1__CLASSIFY_REQUEST__SOURCE_GCS_PATH)
        return error_set(err, ERROR_BAD_REQUEST, "neither image nor gcs_path is given");
    if (!store_set_find(app->readable, in->gcs_path, &object.store, object.key, err) ||
        !fetch_info(&req->context, &object, fetched, err) ||
        !fetch_data(app, &req->context, &object, fetched, err))
        return false;
    *ret = buffer_view(&fetched->data);
    return true;
}

static struct reply reply_labels(const struct request *req, const struct manifest *manifest,
                                 const struct labels *labels)
{
    Darkroom__V1__ClassifyResponse out = DARKROOM__V1__CLASSIFY_RESPONSE__INIT;
    label_message top[TOP_K_MAX], *list[TOP_K_MAX];
    CLEANUP_FREE char *model = xstrdup(manifest->name);

    for (size_t i = 0; i < labels->count; i++) {
        const struct label *label = &labels->top[i];
        const char *line = manifest->labels[label->index];
        top[i] = (label_message)DARKROOM__V1__CLASSIFY_RESPONSE__LABEL__INIT;
        top[i].label = xasprintf("%.*s", (int)strcspn(line, ","), line);
        top[i].confidence = label->confidence;
        top[i].index = (int32_t)label->index;
        list[i] = &top[i];
    }
    out.n_labels = labels->count;
    out.labels = list;
    out.model = model;
    struct reply reply = grpc_reply(req, &out.base);
    for (size_t i = 0; i < labels->count; i++)
        free(top[i].label);
    return reply;
}

struct reply handle_grpc_classify(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    CLEANUP(fetched_done) struct fetched fetched = {0};
    struct error err = {0};
    struct labels labels;
    struct bytes image = {0};

    if (!grpc_message_read(&darkroom__v1__classify_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const request_message *in = (const request_message *)m.message;
    if (in->top_k < 0 || in->top_k > TOP_K_MAX) {
        error_set(&err, ERROR_BAD_REQUEST, "top_k: not a whole number from 1 to %d", TOP_K_MAX);
        return reply_error(&err);
    }
    size_t k = in->top_k > 0 ? (size_t)in->top_k : TOP_K_DEFAULT;
    if (!read_image(app, req, in, &fetched, &image, &err) ||
        !classify_image(app, &req->context, image, k, &labels, &err))
        return reply_error(&err);
    return reply_labels(req, model_manifest(app->model), &labels);
}
