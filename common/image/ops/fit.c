#include "base/clock.h"
#include "image/ops/geometry.h"
#include "image/ops/operations.h"
#include "image/read/jpeg.h"

#include <string.h>

/* The picture's rows, upright, to the resampler. */
static bool feed(const struct turned *picture, const atomic_bool *cancelled,
                 struct image_scratch *w, struct error *err)
{
    enum { ROWS_BETWEEN_LOOKS = 64 };
    struct resample *r = &w->resample;
    size_t columns = (size_t)(r->last_col - r->first_col);

    if (!scratch_buffer_need(&w->rows, 4 * columns, err))
        return false;
    for (int y = r->first_row; y < r->last_row; y++) {
        const uint8_t *p = picture->corner + y * picture->down + r->first_col * picture->across;
        uint8_t *rgbx = w->rows.data;

        for (size_t x = 0; x < columns; x++, p += picture->across) {
            rgbx[4 * x] = p[0];
            rgbx[4 * x + 1] = p[1];
            rgbx[4 * x + 2] = p[2];
            rgbx[4 * x + 3] = 0;
        }
        if (y % ROWS_BETWEEN_LOOKS == 0 && !image_cancelled_check(cancelled, err))
            return false;
        resample_row(r, rgbx);
    }
    return true;
}

/* Whole pictures are turned before they are resized: where no pixels were joined, the result then
 * is the same, to the last bit, however the picture was stored. */
static struct turned turn_upright(struct geometry *g, const VipsImage *image)
{
    struct image_size stored = {image->Xsize, image->Ysize};
    struct turned view = turned_view(image->data, image->Bands, stored, g->turn);

    if (g->turn.mirror_x)
        g->lead_x = stored.width - (double)g->width / g->joined;
    if (g->turn.mirror_y)
        g->lead_y = stored.height - (double)g->height / g->joined;
    if (g->turn.swap) {
        const struct geometry was = *g;

        g->width = was.height;
        g->height = was.width;
        g->decoded = (struct image_size){stored.height, stored.width};
        g->lead_x = was.lead_y;
        g->lead_y = was.lead_x;
    }
    g->turn = (struct turn){0};
    return view;
}

/* RGBA is not resized: see struct image_options. */
static bool take_rgba(const struct turned *upright, struct image_size size, struct image_scratch *w,
                      struct picture *ret, struct error *err)
{
    enum { RGBA = 4 };
    const size_t width = (size_t)size.width;

    if (!scratch_buffer_need(&w->resized, RGBA * width * (size_t)size.height, err))
        return false;
    for (int y = 0; y < size.height; y++) {
        const uint8_t *from = upright->corner + y * upright->down;
        uint8_t *to = w->resized.data + (size_t)y * RGBA * width;

        for (int x = 0; x < size.width; x++, from += upright->across, to += RGBA)
            memcpy(to, from, RGBA);
    }
    *ret = (struct picture){
        .rgb = w->resized.data, .width = size.width, .height = size.height, .alpha = true};
    return true;
}

static bool fit_by_libvips(struct image_scratch *w, const struct fit_request *request,
                           const struct image_header *header, struct picture *ret,
                           struct error *err)
{
    CLEANUP_IMAGE VipsImage *image = NULL;
    double start = clock_monotonic_s(), middle;
    struct geometry g;
    struct turned upright;

    if (!image_decode(w, header, request, &g, &image, err))
        return false;
    middle = clock_monotonic_s();
    upright = turn_upright(&g, image);
    if (image->Bands == 4
            ? !take_rgba(&upright, g.decoded, w, ret, err)
            : !geometry_begin(&g, w, err) || !feed(&upright, request->input->cancelled, w, err) ||
                  !geometry_finish(&g, w, request->background, ret, err))
        return false;
    ret->stages = (struct image_stages){
        .decode = middle - start,
        .transform = clock_monotonic_s() - middle,
    };
    return true;
}

bool image_fit(struct image_scratch *scratch, const struct fit_request *request,
               struct picture *ret, struct error *err)
{
    struct image_input input = *request->input;
    struct fit_request mended = *request;
    struct image_header header;
    double start = clock_monotonic_s(), probed;
    bool ok;

    mended.input = &input;
    if (!image_cancelled_check(input.cancelled, err) ||
        (image_sniff(input.data) == IMAGE_HEIC && !heif_mend(&input.data, &scratch->file, err)) ||
        !image_probe(input.data, input.limits, &header, err))
        return false;
    probed = clock_monotonic_s() - start;
    if (request->options != NULL &&
        !operations_check(request->options, &header, request->input->limits, err))
        return false;
    ok = jpeg_fits(&header) && !scratch->only_libvips
             ? jpeg_fit(scratch, &mended, &header, ret, err)
             : fit_by_libvips(scratch, &mended, &header, ret, err);
    if (!ok)
        return false;
    ret->stages.decode += probed;
    ret->grey = image_keeps_channels(request) && header.grey && !ret->alpha;
    return true;
}

/* The picture as it is; `context` is the request, whose own plan must be possible, too. */
static bool plan_whole(const void *context, int width, int height, struct fit_plan *ret,
                       struct error *err)
{
    const struct fit_request *request = context;
    struct image_size after = operations_size(request->options, (struct image_size){width, height});

    if (!request->plan(request->context, after.width, after.height, ret, err))
        return false;
    *ret = (struct fit_plan){.window_width = width,
                             .window_height = height,
                             .width = width,
                             .height = height,
                             .canvas_width = width,
                             .canvas_height = height};
    return true;
}

void image_take_whole(struct image_scratch *w, const struct picture *picture)
{
    struct scratch_buffer *at = picture->rgb == w->canvas.data ? &w->canvas : &w->resized;
    struct scratch_buffer *other = at == &w->canvas ? &w->resized : &w->canvas;

    for (int i = 0; i < 2; i++)
        scratch_buffer_done(&w->full[i]);
    w->full[0] = *at;
    w->full[1] = *other;
    *at = *other = (struct scratch_buffer){0};
}

bool image_fit_picture(struct image_scratch *w, const struct fit_request *request,
                       const struct picture *picture, struct picture *ret, struct error *err)
{
    struct image_size size = {picture->width, picture->height};
    struct turned view = turned_view(picture->rgb, 3, size, (struct turn){0});
    struct geometry g;

    if (!geometry_plan(&g, &size, 1, request, err))
        return false;
    if (geometry_is_whole(&g)) {
        *ret = *picture;
        return true;
    }
    return geometry_begin(&g, w, err) && feed(&view, request->input->cancelled, w, err) &&
           geometry_finish(&g, w, request->background, ret, err);
}

bool image_operate_whole(struct image_scratch *w, const struct fit_request *request,
                         struct picture *ret, struct error *err)
{
    struct fit_request whole = *request;

    whole.plan = plan_whole;
    whole.context = request;
    if (!image_fit(w, &whole, ret, err))
        return false;
    image_take_whole(w, ret);
    double start = clock_monotonic_s();

    if (!operations_apply(request->options, request->input, w->full, &w->work, ret, err))
        return false;
    ret->stages.transform += clock_monotonic_s() - start;
    return true;
}

bool image_operate(struct image_scratch *w, const struct fit_request *request, struct picture *ret,
                   struct error *err)
{
    struct picture picture;

    if (!image_operate_whole(w, request, &picture, err))
        return false;
    struct image_stages stages = picture.stages;
    double start = clock_monotonic_s();

    if (!image_fit_picture(w, request, &picture, ret, err))
        return false;
    stages.transform += clock_monotonic_s() - start;
    ret->stages = stages;
    return true;
}
