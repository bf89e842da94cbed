/* darkroom.v1.Images: what POST /preprocess and POST /transform do, as calls. */
#include "darkroom/v1/images.pb-c.h"
#include "grpc/stream.h"
#include "preprocess.h"
#include "transform.h"

enum { UPLOAD_MESSAGE_MAX = 4 << 20 }; /* what clients take as the largest by default, too */

/* The message, the file in it and its options. */
struct upload_call {
    struct grpc_message message;
    struct bytes file;
    struct image_options options;
};

static bool read_options(const Darkroom__V1__ImageRequest *in, struct image_options *ret,
                         struct error *err)
{
    *ret = image_options_default();
    for (size_t i = 0; i < in->n_options; i++) {
        const char *name = in->options[i]->key;
        if (image_options_set(ret, name, in->options[i]->value, err))
            continue;
        if (err->code == ERROR_NOT_FOUND)
            error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", name);
        return false;
    }
    return image_options_check(ret, err);
}

static bool read_upload(const struct request *req, struct upload_call *ret, struct error *err)
{
    if (!grpc_message_read(&darkroom__v1__image_request__descriptor, req, &ret->message, err))
        return false;
    const Darkroom__V1__ImageRequest *in = (const Darkroom__V1__ImageRequest *)ret->message.message;
    ret->file = bytes_of(in->image.data, in->image.len);
    if (ret->file.len == 0)
        return error_set(err, ERROR_UNSUPPORTED_MEDIA, "the image is empty");
    return read_options(in, &ret->options, err);
}

static void upload_call_done(struct upload_call *call)
{
    grpc_message_done(&call->message);
}

static struct reply reply_object(const struct request *req, struct preprocessed *object)
{
    Darkroom__V1__PreprocessResponse out = DARKROOM__V1__PREPROCESS_RESPONSE__INIT;

    out.gcs_path = object->uri;
    out.message_id = object->message_id;
    out.id = object->name.id;
    out.width = object->width;
    out.height = object->height;
    out.format = grpc_text(image_format_name(object->name.format));
    out.bytes = (int64_t)object->bytes;
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_preprocess(const struct app *app, const struct request *req)
{
    CLEANUP(upload_call_done) struct upload_call in = {0};
    struct preprocessed object;
    struct error err = {0};

    if (!read_upload(req, &in, &err) ||
        !preprocess(app, &req->context, in.file, &in.options, false, &object, &err))
        return reply_error(&err);
    return reply_object(req, &object);
}

/* The next message of an upload; *more is false when there is none. */
static bool read_piece(const struct request *req, bool first, struct image_options *options,
                       bool *more, struct error *err)
{
    CLEANUP(grpc_message_done) struct grpc_message message = {0};

    if (!grpc_read(req, &darkroom__v1__image_request__descriptor, UPLOAD_MESSAGE_MAX, &message,
                   err))
        return false;
    const Darkroom__V1__ImageRequest *in = (const Darkroom__V1__ImageRequest *)message.message;
    *more = in != NULL;
    if (in == NULL)
        return true;
    if (first && !read_options(in, options, err))
        return false;
    if (!first && in->n_options > 0)
        return error_set(err, ERROR_BAD_REQUEST, "options come with the first message");
    return rpc_keep(req->stream, bytes_of(in->image.data, in->image.len), err);
}

struct reply handle_grpc_upload_stream(const struct app *app, const struct request *req)
{
    struct image_options options = image_options_default();
    struct context context = req->context;
    struct preprocessed object;
    struct error err = {0};

    for (bool first = true, more = true; more; first = false)
        if (!read_piece(req, first, &options, &more, &err))
            return reply_error(&err);
    struct bytes file = rpc_kept(req->stream);
    if (file.len == 0) {
        error_set(&err, ERROR_UNSUPPORTED_MEDIA, "the image is empty");
        return reply_error(&err);
    }
    context.deadline_ms = rpc_deadline(req->stream);
    if (!preprocess(app, &context, file, &options, false, &object, &err))
        return reply_error(&err);
    return reply_object(req, &object);
}

struct reply handle_grpc_transform(const struct app *app, const struct request *req)
{
    CLEANUP(upload_call_done) struct upload_call in = {0};
    CLEANUP(image_result_done) struct image_result image = {0};
    Darkroom__V1__TransformResponse out = DARKROOM__V1__TRANSFORM_RESPONSE__INIT;
    struct error err = {0};

    if (!read_upload(req, &in, &err) ||
        !transform_image(app, &req->context, in.file, &in.options, &image, &err))
        return reply_error(&err);
    out.image = (ProtobufCBinaryData){.data = image.data, .len = image.len};
    out.content_type = grpc_text(image_format_content_type(in.options.format));
    return grpc_reply(req, &out.base);
}
