#include "nlimage.h"

#include "base/strings.h"
#include "transform.h"

#include <string.h>

enum {
    /* What gRPC's clients take unless they are told otherwise, less the other fields. */
    ANSWER_MAX = 4 * 1024 * 1024 - 64,
};

static bool charge(struct nlimage_answer *ret, size_t size, struct error *err)
{
    if (!byte_budget_take(ret->budget, (int64_t)size))
        return error_set(err, ERROR_OVERLOADED, "no room for %zu bytes", size);
    ret->charged += (int64_t)size;
    return true;
}

static bool as_file(const struct app *app, const struct context *ctx, struct bytes file, size_t max,
                    const struct image_options *options, struct nlimage_answer *ret,
                    struct error *err)
{
    struct image_options o = *options;

    if (!image_options_set(&o, "fit", "none", err) ||
        !image_options_set(&o, "format", "png", err) ||
        !transform_image_within(app, ctx, file, &o, &(struct transform_bound){max, IMAGE_JPEG},
                                &ret->file, err))
        return false;
    ret->data = bytes_of(ret->file.data, ret->file.len);
    ret->width = ret->file.width;
    ret->height = ret->file.height;
    return true;
}

/* How the text of a PNG or JPEG file begins. */
static bool is_base64(struct bytes data)
{
    static const char png[] = "iVBORw0KGgo", jpeg[] = "/9j/";

    return bytes_starts_with(data, png, sizeof(png) - 1) ||
           bytes_starts_with(data, jpeg, sizeof(jpeg) - 1);
}

static bool decode(struct bytes text, struct nlimage_answer *ret, struct buffer *file,
                   struct error *err)
{
    CLEANUP(buffer_done) struct buffer copy = BUFFER_MAX(text.len + 1);

    /* text and file; both go at the end */
    if (memchr(text.data, '\0', text.len) != NULL)
        return error_set(err, ERROR_BAD_REQUEST, "not valid base64");
    if (!charge(ret, 2 * text.len, err) || !buffer_append(&copy, text.data, text.len, err))
        return false;
    const char *string = buffer_cstr(&copy, err);
    *file = (struct buffer)BUFFER_MAX(text.len);
    return string != NULL && string_base64_decode(string, file, err);
}

static bool as_base64(const struct app *app, const struct context *ctx, struct bytes text,
                      const struct image_options *options, struct nlimage_answer *ret,
                      struct error *err)
{
    CLEANUP(buffer_done) struct buffer file = {0};

    if (!decode(text, ret, &file, err) ||
        !as_file(app, ctx, buffer_view(&file), ANSWER_MAX / 4 * 3, options, ret, err))
        return false;
    ret->text = (struct buffer)BUFFER_MAX(ANSWER_MAX);
    if (!string_base64_encode(ret->data, &ret->text, err))
        return false;
    ret->data = buffer_view(&ret->text);
    return true;
}

static bool as_pixels(const struct app *app, const struct context *ctx, const struct nlimage *in,
                      const struct image_options *options, struct nlimage_answer *ret,
                      struct error *err)
{
    static const struct image_options nothing;
    union {
        const uint8_t *in;
        uint8_t *pixels;
    } same = {.in = in->data.data};
    const struct image_pixels pixels = {same.pixels, {in->width, in->height}, in->color ? 3 : 1};

    ret->data = in->data;
    ret->width = in->width;
    ret->height = in->height;
    if (memcmp(options->operations, nothing.operations, sizeof(nothing.operations)) == 0)
        return true;
    if (!charge(ret, in->data.len, err) ||
        !transform_pixels(app, ctx, &pixels, options, &ret->pixels, err))
        return false;
    ret->data.data = ret->pixels.data;
    ret->width = ret->pixels.size.width;
    ret->height = ret->pixels.size.height;
    return true;
}

static bool is_pixels(const struct nlimage *in)
{
    return in->width > 0 && in->height > 0 &&
           in->data.len / (in->color ? 3 : 1) == (uint64_t)in->width * (uint64_t)in->height &&
           in->data.len % (in->color ? 3 : 1) == 0;
}

bool nlimage_operate(const struct app *app, const struct context *ctx, const struct nlimage *in,
                     const struct image_options *options, struct nlimage_answer *ret,
                     struct error *err)
{
    const bool file = image_sniff(in->data) != IMAGE_UNKNOWN;

    ret->budget = ctx->budget;
    if (file && as_file(app, ctx, in->data, ANSWER_MAX, options, ret, err))
        return true;
    if (!file && is_base64(in->data) && as_base64(app, ctx, in->data, options, ret, err))
        return true;
    if (!file && !is_base64(in->data))
        error_set(err, ERROR_BAD_REQUEST,
                  "data must be a picture file, base64 of one, or width x height pixels of "
                  "%d byte%s",
                  in->color ? 3 : 1, in->color ? "s" : "");
    /* pixels may begin as a file does */
    if (error_is_passing(err->code) || !is_pixels(in))
        return false;
    return as_pixels(app, ctx, in, options, ret, err);
}

void nlimage_answer_done(struct nlimage_answer *answer)
{
    image_result_done(&answer->file);
    buffer_done(&answer->text);
    free(answer->pixels.data);
    if (answer->charged > 0)
        byte_budget_give(answer->budget, answer->charged);
    *answer = (struct nlimage_answer){0};
}
