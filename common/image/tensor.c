#include "base/clock.h"
#include "image/internal.h"

#include <math.h>

/* As struct image_tensor_spec says. An image between the two sizes (its short side is at most
 * short_side, yet it covers the tensor) is cropped without resampling.
 * Any other is resized with a margin around the tensor, which is not shown: the pixels are then
 * those of a stored `cover` of short_side x short_side, whose own centre is cropped. */
static bool plan_tensor(const void *context, int width, int height, struct fit_plan *ret,
                        struct error *err)
{
    const struct image_tensor_spec *spec = context;
    int short_side = VIPS_MIN(width, height);
    double cover = fmax((double)spec->width / width, (double)spec->height / height);
    bool resized = short_side > spec->short_side || cover > 1;
    double scale = resized ? fmax(cover, (double)spec->short_side / short_side) : 1;
    int margin = resized ? (spec->short_side - VIPS_MAX(spec->width, spec->height)) / 2 : 0;
    int w = spec->width + 2 * margin, h = spec->height + 2 * margin;

    (void)err;
    *ret = (struct fit_plan){
        .window_width = fmin(w / scale, width),
        .window_height = fmin(h / scale, height),
        .width = w,
        .height = h,
        .canvas_width = spec->width,
        .canvas_height = spec->height,
        .canvas_left = -margin,
        .canvas_top = -margin,
    };
    ret->left = (width - ret->window_width) / 2;
    ret->top = (height - ret->window_height) / 2;
    return true;
}

/* out = in * scale + offset, a loop that compilers vectorise */
static void convert(const uint8_t *rgb, size_t pixels, const struct image_tensor_spec *spec,
                    float *restrict tensor)
{
    for (size_t c = 0; c < 3; c++) {
        float scale = 1 / spec->std[c], offset = -spec->mean[c] / spec->std[c];
        size_t step = spec->nchw ? 1 : 3;
        float *restrict out = tensor + (spec->nchw ? c * pixels : c);

        for (size_t i = 0; i < pixels; i++)
            out[i * step] = (float)rgb[3 * i + c] * scale + offset;
    }
}

bool image_to_tensor(struct image_worker *worker, const struct image_input *input,
                     const struct image_tensor_spec *spec, struct image_tensor *ret,
                     struct error *err)
{
    struct fit_request request = {plan_tensor, spec, 0xffffff, input};
    struct picture picture;
    bool ok = image_fit(worker, &request, &picture, err);

    if (ok) {
        double start = clock_monotonic_s();

        convert(picture.rgb, (size_t)spec->width * (size_t)spec->height, spec, ret->values);
        ret->stages = picture.stages;
        ret->stages.transform += clock_monotonic_s() - start;
    }
    image_worker_trim(worker);
    return ok;
}
