/* NLImageService: the older image service. */
#include "grpc/message.h"
#include "nlimage.h"
#include "nlimage.pb-c.h"

static struct reply answer(const struct app *app, const struct request *req, const NLImage *in,
                           const char *operation, const char *value)
{
    CLEANUP(nlimage_answer_done) struct nlimage_answer picture = {0};
    struct image_options options = image_options_default();
    NLImage out = NLIMAGE__INIT;
    struct error err = {0};

    if (in == NULL) {
        error_set(&err, ERROR_BAD_REQUEST, "the message has no image");
        return reply_error(&err);
    }
    const struct nlimage image = {bytes_of(in->data.data, in->data.len), in->color, in->width,
                                  in->height};
    if (!image_options_set(&options, operation, value, &err) ||
        !nlimage_operate(app, &req->context, &image, &options, &picture, &err))
        return reply_error(&err);
    out.color = in->color;
    out.data = grpc_bytes(picture.data);
    out.width = picture.width;
    out.height = picture.height;
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_rotate_image(const struct app *app, const struct request *req)
{
    /* ours are clockwise */
    static const char *const degrees[] = {
        [NLIMAGE_ROTATE_REQUEST__ROTATION__NONE] = "0",
        [NLIMAGE_ROTATE_REQUEST__ROTATION__NINETY_DEG] = "270",
        [NLIMAGE_ROTATE_REQUEST__ROTATION__ONE_EIGHTY_DEG] = "180",
        [NLIMAGE_ROTATE_REQUEST__ROTATION__TWO_SEVENTY_DEG] = "90",
    };
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    struct error err = {0};

    if (!grpc_message_read(&nlimage_rotate_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const NLImageRotateRequest *in = (const NLImageRotateRequest *)m.message;
    const int64_t rotation = in->rotation; /* another number may come */
    if (rotation < 0 || rotation >= (int64_t)ARRAY_SIZE(degrees)) {
        error_set(&err, ERROR_BAD_REQUEST, "rotation: must be 0, 1, 2 or 3, not %lld",
                  (long long)rotation);
        return reply_error(&err);
    }
    return answer(app, req, in->image, "rotate", degrees[rotation]);
}

struct reply handle_grpc_mean_filter(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    struct error err = {0};

    if (!grpc_message_read(&nlimage__descriptor, req, &m, &err))
        return reply_error(&err);
    return answer(app, req, (const NLImage *)m.message, "mean", "3");
}
