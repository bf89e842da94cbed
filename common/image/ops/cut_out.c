/* remove_background=1: the picture behind a mask that a model finds. Models do not run in a
 * sandbox, so the work is in two steps: before the mask, and with it.
 *
 * Colours are multiplied by alpha before the picture is resized and divided by it afterwards: else
 * colours of the background would bleed into the edges. */
#include "base/clock.h"
#include "image/ops/geometry.h"
#include "image/ops/operations.h"
#include "image/ops/vectorised.h"

#include <math.h>
#include <string.h>

enum { RGB = 3, RGBA = 4 };

static bool parse(const char *name, const char *value, int *ret, struct error *err)
{
    if (strcmp(value, "1") != 0 && strcmp(value, "0") != 0 && *value != '\0')
        return error_set(err, ERROR_BAD_REQUEST, "%s: must be 1 or 0", name);
    *ret = *value == '1';
    return true;
}

/* Without the model, whose time is that of many pixels: image_precheck. */
static double cost_ns(int value)
{
    (void)value;
    return 10;
}

const struct operation operation_remove_background = {
    .name = "remove_background",
    .parse = parse,
    .cost_ns = cost_ns,
};

/* ---- before the mask */

static bool plan_stretched(const void *context, int width, int height, struct fit_plan *ret,
                           struct error *err)
{
    const struct image_size *size = context;

    (void)err;
    *ret = (struct fit_plan){.window_width = width,
                             .window_height = height,
                             .width = size->width,
                             .height = size->height,
                             .canvas_width = size->width,
                             .canvas_height = size->height};
    return true;
}

struct reduce {
    const struct image_options *options;
    struct image_size least;     /* what the mask is found in */
    struct image_size *original; /* set */
    int64_t max_bytes;
};

/* The scale of the result, where the mask can be found in that: then the picture is resized once.
 * Else a factor is left for the second resize. */
static double reduced_scale(struct image_size least, struct image_size whole,
                            const struct fit_plan *p)
{
    double fit = fmax(p->width / p->window_width, p->height / p->window_height);
    double mask = fmax((double)least.width / whole.width, (double)least.height / whole.height);

    return fmin(fit >= mask ? fit : fmax(mask, RESIZE_RESERVE * fit), 1);
}

static struct image_size reduced_size(struct image_size least, struct image_size whole,
                                      const struct fit_plan *p)
{
    double scale = reduced_scale(least, whole, p);
    struct image_size size = {VIPS_MAX((int)lround(whole.width * scale), 1),
                              VIPS_MAX((int)lround(whole.height * scale), 1)};

    if (p->window_width == whole.width && p->window_height == whole.height &&
        abs(size.width - p->width) <= 1 && abs(size.height - p->height) <= 1)
        size = (struct image_size){p->width, p->height};
    return size;
}

/* The picture and its mask. */
static int64_t reduced_bytes(struct image_size size)
{
    return 2 * RGB * (int64_t)size.width * size.height;
}

/* All of the picture, as small as serves: most that are cut out of a large photograph are fitted
 * into a small one. */
static bool plan_reduced(const void *context, int width, int height, struct fit_plan *ret,
                         struct error *err)
{
    const struct reduce *reduce = context;
    struct fit_plan p;

    if (!image_plan_fit(reduce->options, width, height, &p, err))
        return false;
    *reduce->original = (struct image_size){width, height};
    struct image_size size = reduced_size(reduce->least, *reduce->original, &p);
    if (reduced_bytes(size) > reduce->max_bytes)
        return error_set(err, ERROR_TOO_LARGE,
                         "remove_background would take more than %lld bytes of memory",
                         (long long)reduce->max_bytes);
    return plan_stretched(&size, width, height, ret, err);
}

int64_t cut_out_memory(const struct image_options *options, struct image_size stored)
{
    enum { MODEL_SIDE = 320 };
    const struct image_size least = {MODEL_SIDE, MODEL_SIDE};
    const struct image_size upright[] = {stored, {stored.height, stored.width}};
    int64_t most = 0;

    for (size_t i = 0; i < ARRAY_SIZE(upright); i++) {
        struct fit_plan p;
        struct error refused; /* when it is known how the picture is turned */

        if (!image_plan_fit(options, upright[i].width, upright[i].height, &p, &refused))
            continue;
        int64_t bytes = reduced_bytes(reduced_size(least, upright[i], &p)) +
                        RGBA * (int64_t)p.canvas_width * p.canvas_height;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static bool decode(struct image_scratch *w, const struct image_input *input,
                   const struct image_options *options, struct image_size least,
                   struct cut_out *ret, struct error *err)
{
    const struct reduce reduce = {options, least, &ret->original, input->limits->max_decode_bytes};
    const struct fit_request reduced = {plan_reduced, &reduce, options->background, input, options};
    const struct fit_request whole = {image_plan_fit, options, options->background, input, options};

    if (operations_apply_any(options)) {
        if (!image_operate_whole(w, &whole, &ret->picture, err))
            return false;
        ret->original = (struct image_size){ret->picture.width, ret->picture.height};
        return true;
    }
    if (!image_fit(w, &reduced, &ret->picture, err))
        return false;
    image_take_whole(w, &ret->picture);
    return true;
}

static bool begin(struct image_scratch *w, const struct image_input *input,
                  const struct image_options *options, struct image_size size, uint8_t *rgb,
                  struct cut_out *ret, struct error *err)
{
    const struct fit_request stretched = {plan_stretched, &size, 0, input, NULL};
    struct picture small;

    if (!image_options_check(options, err) || !image_encode_check(options, err) ||
        !decode(w, input, options, size, ret, err))
        return false;
    double start = clock_monotonic_s();
    if (!image_fit_picture(w, &stretched, &ret->picture, &small, err))
        return false;
    memcpy(rgb, small.rgb, RGB * (size_t)size.width * (size_t)size.height);
    ret->picture.stages.transform += clock_monotonic_s() - start;
    return true;
}

bool image_cut_begin(struct image_scratch *w, const struct image_input *input,
                     const struct image_options *options, struct image_size size, uint8_t *rgb,
                     struct image_stages *ret, struct error *err)
{
    struct cut_out cut = {0};

    if (!begin(w, input, options, size, rgb, &cut, err)) {
        image_scratch_trim(w);
        return false;
    }
    w->cut = cut;
    *ret = cut.picture.stages;
    return true;
}

/* ---- with the mask */

struct blend {
    uint8_t *rgb;         /* over the colour, in place */
    const uint8_t *alpha; /* as many bytes: one for each of R, G, B */
    size_t pixels;
    uint8_t colour[RGB];
};

/* x / 255, rounded; exact for products of two bytes */
static inline unsigned by_255(unsigned x)
{
    x += 128;
    return (x + (x >> 8)) >> 8;
}

VECTORISED_BODY void blend_body(const struct blend *b)
{
    VECTORISED_LOOP
    for (size_t i = 0; i < b->pixels; i++)
        for (size_t c = 0; c < RGB; c++) {
            unsigned a = b->alpha[RGB * i + c];

            b->rgb[RGB * i + c] =
                (uint8_t)by_255(b->rgb[RGB * i + c] * a + b->colour[c] * (255 - a));
        }
}
VECTORISED_FORMS(blend, struct blend)

/* Fitted, and then in `into`. */
static bool fit_into(struct image_scratch *w, const struct fit_request *request,
                     struct picture *picture, struct scratch_buffer *into, struct error *err)
{
    struct picture fitted;

    if (!image_fit_picture(w, request, picture, &fitted, err))
        return false;
    struct scratch_buffer *at = fitted.rgb == w->canvas.data    ? &w->canvas
                                : fitted.rgb == w->resized.data ? &w->resized
                                                                : NULL;
    if (at != NULL) {
        struct scratch_buffer made = *at;

        *at = *into;
        *into = made;
    } else if (fitted.rgb != into->data) {
        size_t size = RGB * (size_t)fitted.width * (size_t)fitted.height;

        if (!scratch_buffer_need(into, size, err))
            return false;
        memcpy(into->data, fitted.rgb, size);
    }
    fitted.rgb = into->data;
    *picture = fitted;
    return true;
}

/* The mask in the picture's size, three equal bytes a pixel, in full[1]. */
static bool enlarge_mask(struct image_scratch *w, const struct image_mask *mask,
                         const struct image_input *input, struct picture *ret, struct error *err)
{
    const struct image_size size = {w->cut.picture.width, w->cut.picture.height};
    const struct fit_request stretched = {plan_stretched, &size, 0, input, NULL};
    const size_t count = (size_t)mask->size.width * (size_t)mask->size.height;

    if (!scratch_buffer_need(&w->work, RGB * count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        memset(w->work.data + RGB * i, mask->alpha[i], RGB);
    *ret = (struct picture){
        .rgb = w->work.data, .width = mask->size.width, .height = mask->size.height};
    return fit_into(w, &stretched, ret, &w->full[1], err);
}

/* The plan is made for the original. */
static bool plan_of_original(const void *context, int width, int height, struct fit_plan *ret,
                             struct error *err)
{
    const struct fit_request *request = context;
    const struct image_size *original = request->context;

    if (!image_plan_fit(request->options, original->width, original->height, ret, err))
        return false;
    double x = (double)width / original->width, y = (double)height / original->height;
    ret->left *= x;
    ret->window_width *= x;
    ret->top *= y;
    ret->window_height *= y;
    return true;
}

/* The colours divided by alpha again, in `work`. */
static bool join(struct image_scratch *w, const struct picture *rgb, const struct picture *alpha,
                 struct picture *ret, struct error *err)
{
    const size_t count = (size_t)rgb->width * (size_t)rgb->height;

    if (!scratch_buffer_need(&w->work, RGBA * count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = rgb->rgb + RGB * i;
        unsigned a = alpha->rgb[RGB * i];
        uint8_t *q = w->work.data + RGBA * i;

        memset(q, 0, RGBA);
        if (a == 255) /* most that is not 0 */
            memcpy(q, p, RGB);
        else if (a > 0)
            for (size_t c = 0; c < RGB; c++)
                q[c] = (uint8_t)VIPS_MIN((p[c] * 255U + a / 2) / a, 255);
        q[RGB] = (uint8_t)a;
    }
    *ret = *rgb;
    ret->rgb = w->work.data;
    ret->alpha = true;
    return true;
}

static bool cut_out(struct image_scratch *w, const struct image_mask *mask,
                    const struct image_options *options, const struct image_input *input,
                    struct picture *ret, struct error *err)
{
    const bool opaque = options->format == IMAGE_JPEG;
    const uint32_t under = opaque ? options->background : 0;
    struct fit_request fit = {plan_of_original, NULL, under, input, options};
    struct fit_request inner = {NULL, &w->cut.original, under, input, options};
    struct picture alpha;

    fit.context = &inner;
    if (!enlarge_mask(w, mask, input, &alpha, err))
        return false;
    *ret = w->cut.picture;
    blend(false, &(struct blend){
                     .rgb = w->full[0].data,
                     .alpha = alpha.rgb,
                     .pixels = (size_t)ret->width * (size_t)ret->height,
                     .colour = {(uint8_t)(under >> 16), (uint8_t)(under >> 8), (uint8_t)under},
                 });
    if (!fit_into(w, &fit, ret, &w->full[0], err))
        return false;
    return opaque ||
           (fit_into(w, &fit, &alpha, &w->full[1], err) && join(w, ret, &alpha, ret, err));
}

static bool finish(struct image_scratch *w, const struct image_mask *mask,
                   const struct image_options *options, const atomic_bool *cancelled,
                   struct image_result *ret, struct error *err)
{
    const struct image_input input = {.cancelled = cancelled};
    struct image_result result = {0};
    struct picture picture;
    double start = clock_monotonic_s(), fitted;

    if (w->cut.picture.rgb == NULL)
        return error_set(err, ERROR_UNAVAILABLE, "the picture is gone; send it again");
    if (!cut_out(w, mask, options, &input, &picture, err))
        return false;
    fitted = clock_monotonic_s();
    if (!image_encode(w, &(struct encode_request){options, cancelled}, &picture, &result, err))
        return false;
    result.stages.transform = fitted - start;
    result.stages.encode = clock_monotonic_s() - fitted;
    result.width = picture.width;
    result.height = picture.height;
    *ret = result;
    return true;
}

bool image_cut_finish(struct image_scratch *w, const struct image_mask *mask,
                      const struct image_options *options, const atomic_bool *cancelled,
                      struct image_result *ret, struct error *err)
{
    bool ok = finish(w, mask, options, cancelled, ret, err);

    image_scratch_trim(w);
    return ok;
}
