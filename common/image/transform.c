#include "base/clock.h"
#include "image/ops/operations.h"
#include "image/scratch.h"

#include <math.h>

/* Whole pixels, at least one; far over any limit when it does not fit. */
static int pixels(double size)
{
    return size < 1 ? 1 : size > INT32_MAX ? INT32_MAX : (int)lround(size);
}

/* The box asked for. A missing dimension follows from the aspect ratio, so for `inside` it is no
 * bound: only the given one decides. */
static void box_size(const struct image_options *options, int width, int height, double *box_width,
                     double *box_height)
{
    *box_width = options->width;
    *box_height = options->height;
    if (options->fit == IMAGE_NONE) {
        *box_width = width;
        *box_height = height;
    } else if (options->width == 0 && options->height == 0)
        *box_width = *box_height = 256;
    else if (options->width == 0)
        *box_width = (double)options->height * width / height;
    else if (options->height == 0)
        *box_height = (double)options->width * height / width;
}

/* The whole source within the box, keeping its aspect ratio. */
static void plan_within(struct fit_plan *plan, double box_width, double box_height, double max)
{
    double scale = fmin(box_width / plan->window_width, box_height / plan->window_height);

    scale = fmin(scale, max);
    plan->width = pixels(plan->window_width * scale);
    plan->height = pixels(plan->window_height * scale);
}

/* The largest window with the box's aspect ratio, centred. */
static void plan_cover(struct fit_plan *plan, double box_width, double box_height)
{
    double width = plan->window_width, height = plan->window_height;
    double scale = fmax(box_width / width, box_height / height);

    plan->window_width = fmin(box_width / scale, width);
    plan->window_height = fmin(box_height / scale, height);
    plan->left = (width - plan->window_width) / 2;
    plan->top = (height - plan->window_height) / 2;
}

bool image_plan_fit(const void *context, int width, int height, struct fit_plan *ret,
                    struct error *err)
{
    const struct image_options *options = context;
    struct fit_plan p = {.window_width = width, .window_height = height};
    double box_width, box_height;

    box_size(options, width, height, &box_width, &box_height);
    p.width = pixels(box_width);
    p.height = pixels(box_height);
    if (options->fit == IMAGE_INSIDE)
        plan_within(&p, box_width, box_height, 1);
    if (!image_output_check(options, p.width, p.height, err))
        return false;

    p.canvas_width = p.width;
    p.canvas_height = p.height;
    if (options->fit == IMAGE_CONTAIN)
        plan_within(&p, p.width, p.height, INFINITY);
    if (options->fit == IMAGE_COVER)
        plan_cover(&p, p.width, p.height);
    p.canvas_left = (p.canvas_width - p.width) / 2;
    p.canvas_top = (p.canvas_height - p.height) / 2;
    *ret = p;
    return true;
}

static bool transform(struct image_scratch *scratch, const struct image_input *input,
                      const struct image_options *options, struct image_result *ret,
                      struct error *err)
{
    const bool operated = operations_asked(options) || options->keep_channels;
    struct fit_request request = {image_plan_fit, options, options->background, input,
                                  operated ? options : NULL};
    struct picture picture;
    struct image_result result = {0};
    double start;

    if (!image_options_check(options, err) || !image_encode_check(options, err))
        return false;
    if (image_options_cut_out(options))
        return error_set(err, ERROR_INTERNAL, "remove_background takes two steps");
    if (!(operated ? image_operate : image_fit)(scratch, &request, &picture, err))
        return false;
    start = clock_monotonic_s();
    if (!image_encode(scratch, &(struct encode_request){options, input->cancelled}, &picture,
                      &result, err))
        return false;
    result.stages = picture.stages;
    result.stages.encode = clock_monotonic_s() - start;
    result.width = picture.width;
    result.height = picture.height;
    *ret = result;
    return true;
}

bool image_transform(struct image_scratch *scratch, const struct image_input *input,
                     const struct image_options *options, struct image_result *ret,
                     struct error *err)
{
    bool ok = transform(scratch, input, options, ret, err);

    image_scratch_trim(scratch);
    return ok;
}

void image_result_done(struct image_result *result)
{
    if (result->release != NULL)
        result->release(result->data);
    *result = (struct image_result){0};
}
