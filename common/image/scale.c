#include "base/clock.h"
#include "image/internal.h"

#include <math.h>

/* Rows and columns are handled alike: an axis of the decoded picture. The part [from, from + size)
 * is resized by `scale`, of which [skip, skip + want) is kept. */
struct axis {
    int from, size;
    double scale;
    int skip, want;
};

static int clamp(int64_t n, int64_t min, int64_t max)
{
    return (int)(n < min ? min : n > max ? max : n);
}

/* `from` and `size` in pixels of the decoded picture, which has `length` of them.
 * Shrinking, the window is rounded to whole pixels. Enlarging, a fraction of a pixel is visible:
 * then some neighbours are resized along and cut off afterwards. */
static struct axis plan_axis(double from, double size, int length, int want)
{
    enum { NEIGHBOURS = 3 };
    struct axis a = {.scale = want / size, .want = want};

    if (a.scale <= 1 || size >= length) {
        a.size = clamp(llround(size), 1, length);
        a.from = clamp(llround(from), 0, length - a.size);
        a.scale = (double)want / a.size;
    } else {
        a.from = clamp((int64_t)floor(from) - NEIGHBOURS, 0, length - 1);
        a.size = clamp((int64_t)ceil(from + size) + NEIGHBOURS, 1, length) - a.from;
        a.skip = clamp(llround((from - a.from) * a.scale), 0,
                       VIPS_MAX(llround(a.size * a.scale) - want, 0));
    }
    return a;
}

static bool failed(struct error *err)
{
    return image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be scaled");
}

static bool crop(VipsImage **image, int left, int top, int width, int height, struct error *err)
{
    VipsImage *out = NULL;

    if (left == 0 && top == 0 && width == (*image)->Xsize && height == (*image)->Ysize)
        return true;
    if (vips_extract_area(*image, &out, left, top, width, height, NULL) != 0)
        return failed(err);
    image_replace(image, out);
    return true;
}

static bool resize(VipsImage **image, double x, double y, struct error *err)
{
    VipsImage *out = NULL;

    if (x == 1 && y == 1)
        return true;
    if (vips_resize(*image, &out, x, "vscale", y, "kernel", VIPS_KERNEL_LANCZOS3, NULL) != 0)
        return failed(err);
    image_replace(image, out);
    return true;
}

static bool pad(VipsImage **image, const struct fit_plan *plan, uint32_t background,
                struct error *err)
{
    VipsImage *out = NULL;
    VipsArrayDouble *rgb;
    int status;

    if (plan->canvas_width == plan->width && plan->canvas_height == plan->height)
        return true;
    rgb = pixels_background(background);
    status =
        vips_embed(*image, &out, plan->canvas_left, plan->canvas_top, plan->canvas_width,
                   plan->canvas_height, "extend", VIPS_EXTEND_BACKGROUND, "background", rgb, NULL);
    vips_area_unref(VIPS_AREA(rgb));
    if (status != 0)
        return failed(err);
    image_replace(image, out);
    return true;
}

static bool image_scale(struct decoded *d, const struct fit_request *request, struct error *err)
{
    const struct fit_plan *p = &d->plan;
    double kx = (double)d->image->Xsize / d->width, ky = (double)d->image->Ysize / d->height;
    struct axis x = plan_axis(p->left * kx, p->window_width * kx, d->image->Xsize, p->width);
    struct axis y = plan_axis(p->top * ky, p->window_height * ky, d->image->Ysize, p->height);

    if (!crop(&d->image, x.from, y.from, x.size, y.size, err) ||
        !resize(&d->image, x.scale, y.scale, err) ||
        !crop(&d->image, x.skip, y.skip, x.want, y.want, err))
        return false;
    if (!d->ready &&
        (!pixels_to_srgb(&d->image, err) || !pixels_flatten(&d->image, request->background, err)))
        return false;
    return pad(&d->image, p, request->background, err) &&
           pixels_render(&d->image, request->cancelled, err);
}

bool image_fit(struct bytes data, const struct image_limits *limits,
               const struct fit_request *request, struct image_stages *stages, VipsImage **ret,
               struct error *err)
{
    CLEANUP(decoded_done) struct decoded decoded = {0};
    struct image_header header;
    double start = clock_monotonic_s(), middle;

    if (!image_cancelled_check(request->cancelled, err) ||
        !image_probe(data, limits, &header, err) ||
        !image_decode(data, &header, request, &decoded, err))
        return false;
    middle = clock_monotonic_s();
    if (!image_scale(&decoded, request, err))
        return false;
    stages->decode = middle - start;
    stages->transform = clock_monotonic_s() - middle;
    *ret = TAKE_PTR(decoded.image);
    return true;
}
