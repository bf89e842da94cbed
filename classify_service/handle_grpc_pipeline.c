/* image_pipeline.ImageClassifier: the older pipeline's label. */
#include "base/xmalloc.h"
#include "classify.h"
#include "grpc/message.h"
#include "image_pipeline.pb-c.h"

#include <string.h>

struct reply handle_grpc_pipeline_classify(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    ImagePipeline__ClassifyResponse out = IMAGE_PIPELINE__CLASSIFY_RESPONSE__INIT;
    struct error err = {0};
    struct labels labels;

    if (!grpc_message_read(&image_pipeline__classify_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const ProtobufCBinaryData *in =
        &((const ImagePipeline__ClassifyRequest *)m.message)->image_data;
    if (!classify_image(app, &req->context, bytes_of(in->data, in->len), 1, &labels, &err))
        return reply_error(&err);
    const char *line = model_manifest(app->model)->labels[labels.top[0].index];
    CLEANUP_FREE char *label = xasprintf("%.*s", (int)strcspn(line, ","), line);
    out.label = label;
    return grpc_reply(req, &out.base);
}
