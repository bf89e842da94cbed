/* POST /transform: an upload in, the picture out. Nothing is stored or announced. */
#include "image_upload.h"
#include "transform.h"

static struct reply reply_image(const struct request *req, struct image_result *image,
                                enum image_format format)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(image->len);
    const int64_t bytes = (int64_t)image->len;
    struct error err = {0};

    if (!byte_budget_take(req->context.budget, bytes)) {
        error_set(&err, ERROR_OVERLOADED, "no room for a picture of %lld bytes", (long long)bytes);
        return reply_error(&err);
    }
    if (!transform_take_bytes(image, &body, &err)) {
        byte_budget_give(req->context.budget, bytes);
        return reply_error(&err);
    }
    struct reply reply = reply_buffer(200, image_format_content_type(format), &body);
    reply.charged_bytes = bytes;
    reply_add_header(&reply, "X-Content-Type-Options", "nosniff");
    reply_add_header(&reply, "Content-Security-Policy", "default-src 'none'; sandbox");
    return reply;
}

struct reply handle_transform(const struct app *app, const struct request *req)
{
    CLEANUP(image_result_done) struct image_result image = {0};
    struct image_options options;
    struct error err = {0};
    struct bytes file;

    if (!image_upload_read(req, &file, &options, NULL, &err) ||
        !transform_image(app, &req->context, file, &options, &image, &err))
        return reply_error(&err);
    return reply_image(req, &image, options.format);
}
