#include "base/clock.h"
#include "image/jpeg.h"

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

void axis_window(double *from, double *size, int length, int out)
{
    if (out <= *size || *size >= length) {
        *size = clamp(llround(*size), 1, length);
        *from = clamp(llround(*from), 0, length - (int)*size);
    }
}

/* `from` and `size` in pixels of the decoded picture, which has `length` of them.
 * Enlarging a window, some neighbours are resized along and cut off afterwards. */
static struct axis plan_axis(double from, double size, int length, int want)
{
    enum { NEIGHBOURS = 3 };
    struct axis a = {.want = want};

    axis_window(&from, &size, length, want);
    a.scale = want / size;
    if (a.scale <= 1 || size >= length) {
        a.size = (int)size;
        a.from = (int)from;
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
           pixels_render(&d->image, request->input->cancelled, err);
}

static bool fit_by_libvips(const struct fit_request *request, const struct image_header *header,
                           struct picture *ret, struct error *err)
{
    CLEANUP(decoded_done) struct decoded decoded = {0};
    double start = clock_monotonic_s(), middle;

    if (!image_decode(header, request, &decoded, err))
        return false;
    middle = clock_monotonic_s();
    if (!image_scale(&decoded, request, err))
        return false;
    *ret = (struct picture){
        .rgb = decoded.image->data,
        .width = decoded.image->Xsize,
        .height = decoded.image->Ysize,
        .stages = {.decode = middle - start, .transform = clock_monotonic_s() - middle},
    };
    ret->image = TAKE_PTR(decoded.image);
    return true;
}

bool image_fit(struct image_worker *worker, const struct fit_request *request, struct picture *ret,
               struct error *err)
{
    const struct image_input *input = request->input;
    struct image_header header;
    double start = clock_monotonic_s(), probed;
    bool ok;

    if (!image_cancelled_check(input->cancelled, err) ||
        !image_probe(input->data, input->limits, &header, err))
        return false;
    probed = clock_monotonic_s() - start;
    ok = jpeg_fits(&header) && !worker->only_libvips ? jpeg_fit(worker, request, &header, ret, err)
                                                     : fit_by_libvips(request, &header, ret, err);
    if (ok)
        ret->stages.decode += probed;
    return ok;
}

void picture_done(struct picture *picture)
{
    cleanup_vips_image(&picture->image);
}
