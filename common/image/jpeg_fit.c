/* A JPEG from the file to the picture that was asked for, in one pass over its rows: decoded no
 * larger and no wider than needed, resized as the rows come, and only then, when it is small,
 * converted to sRGB, turned upright and padded. */
#include "base/clock.h"
#include "image/colours.h"
#include "image/jpeg.h"
#include "image/jpeg_decode.h"

#include <string.h>

/* How a stored picture becomes upright: first the axes are exchanged, then mirrored (EXIF 2.3,
 * 4.6.4, orientation). In terms of the stored picture's own axes. */
struct turn {
    bool swap, mirror_x, mirror_y;
};

static struct turn turn_of(int orientation)
{
    return (struct turn){
        .swap = orientation >= 5,
        .mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8,
        .mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7,
    };
}

/* Along one upright axis of the decoded picture. */
struct stretch {
    double from, size; /* the window, of `length` pixels */
    int length, out;
};

/* Only the part of the output that the canvas shows is made: [skip, skip + shown). */
static struct stretch stretch_of(double from, double size, struct stretch axis, int skip, int shown)
{
    axis_window(&from, &size, axis.length, axis.out);
    if (skip > 0) {
        double pixel = size / axis.out;

        from += skip * pixel;
        size = shown * pixel;
        axis.out = shown;
    }
    axis.from = from;
    axis.size = size;
    return axis;
}

struct geometry {
    int denominator;
    struct turn turn;
    struct fit_plan plan;
    struct resample_plan resample; /* of the decoded picture as it is stored */
};

static double mirrored(const struct stretch *s, bool mirror)
{
    return mirror ? s->length - s->from - s->size : s->from;
}

/* As much of the DCT as is needed: a smaller inverse DCT is a good box filter, and a factor of
 * RESIZE_RESERVE is left for the better one. */
static int denominator_of(const struct fit_plan *p)
{
    double x = p->window_width / p->width, y = p->window_height / p->height;
    double factor = (x < y ? x : y) / RESIZE_RESERVE;

    return factor >= 8 ? 8 : factor >= 4 ? 4 : factor >= 2 ? 2 : 1;
}

static int divide_up(int n, int by)
{
    return (n + by - 1) / by;
}

static bool make_geometry(const struct jpeg_decoder *d, int orientation,
                          const struct fit_request *request, struct geometry *g, struct error *err)
{
    int width = (int)d->codec.image_width, height = (int)d->codec.image_height;
    struct turn t = turn_of(orientation);
    struct fit_plan *p = &g->plan;
    struct stretch across, down;
    double kx, ky;

    if (!request->plan(request->context, t.swap ? height : width, t.swap ? width : height, p, err))
        return false;
    g->turn = t;
    g->denominator = denominator_of(p);
    g->resample.src_width = divide_up(width, g->denominator);
    g->resample.src_height = divide_up(height, g->denominator);
    across.length = t.swap ? g->resample.src_height : g->resample.src_width;
    down.length = t.swap ? g->resample.src_width : g->resample.src_height;
    across.out = p->width;
    down.out = p->height;
    kx = (double)across.length / (t.swap ? height : width);
    ky = (double)down.length / (t.swap ? width : height);
    across =
        stretch_of(p->left * kx, p->window_width * kx, across, -p->canvas_left, p->canvas_width);
    down = stretch_of(p->top * ky, p->window_height * ky, down, -p->canvas_top, p->canvas_height);

    const struct stretch *x = t.swap ? &down : &across, *y = t.swap ? &across : &down;
    g->resample.left = mirrored(x, t.mirror_x);
    g->resample.top = mirrored(y, t.mirror_y);
    g->resample.width = x->size;
    g->resample.height = y->size;
    g->resample.out_width = x->out;
    g->resample.out_height = y->out;
    return true;
}

static void fill(uint8_t *rgb, size_t pixels, uint32_t colour)
{
    for (size_t i = 0; i < pixels; i++) {
        rgb[3 * i] = (uint8_t)(colour >> 16);
        rgb[3 * i + 1] = (uint8_t)(colour >> 8);
        rgb[3 * i + 2] = (uint8_t)colour;
    }
}

/* Row by row of the upright picture; a step along it is a pixel or a row of the stored one. */
static void copy_turned(uint8_t *to, size_t to_stride, const struct resample_plan *from,
                        struct turn t)
{
    ptrdiff_t across = 3, down = (ptrdiff_t)from->out_stride;
    int width = t.swap ? from->out_height : from->out_width;
    int height = t.swap ? from->out_width : from->out_height;
    const uint8_t *corner = from->out + (t.mirror_x ? 3 * (from->out_width - 1) : 0) +
                            (t.mirror_y ? (from->out_height - 1) * down : 0);

    across = t.mirror_x ? -across : across;
    down = t.mirror_y ? -down : down;
    for (int y = 0; y < height; y++) {
        const uint8_t *p = corner + y * (t.swap ? across : down);
        uint8_t *q = to + (size_t)y * to_stride;

        for (int x = 0; x < width; x++, q += 3, p += t.swap ? down : across) {
            q[0] = p[0];
            q[1] = p[1];
            q[2] = p[2];
        }
    }
}

/* Upright, and on its canvas. */
static bool place(struct image_worker *w, const struct geometry *g, uint32_t background,
                  struct picture *ret, struct error *err)
{
    const struct fit_plan *p = &g->plan;
    const struct turn t = g->turn;
    size_t stride = 3 * (size_t)p->canvas_width;
    int width = t.swap ? g->resample.out_height : g->resample.out_width;
    int height = t.swap ? g->resample.out_width : g->resample.out_height;
    bool padded = width != p->canvas_width || height != p->canvas_height;

    *ret = (struct picture){.width = p->canvas_width, .height = p->canvas_height};
    ret->rgb = g->resample.out;
    if (!padded && !t.swap && !t.mirror_x && !t.mirror_y)
        return true;
    if (!scratch_need(&w->canvas, stride * (size_t)p->canvas_height, err))
        return false;
    ret->rgb = w->canvas.data;
    if (padded)
        fill(w->canvas.data, (size_t)p->canvas_width * (size_t)p->canvas_height, background);
    int left = p->canvas_left > 0 ? p->canvas_left : 0, top = p->canvas_top > 0 ? p->canvas_top : 0;
    copy_turned(w->canvas.data + (size_t)top * stride + 3 * (size_t)left, stride, &g->resample, t);
    return true;
}

bool jpeg_fits(const struct image_header *header)
{
    return header->format == IMAGE_JPEG && (header->bands == 1 || header->bands == 3);
}

/* The resized picture as it is stored, in w->resized. */
static bool decode(struct image_worker *w, struct jpeg_decoder *d, struct geometry *g,
                   struct error *err)
{
    struct resample_plan *r = &g->resample;

    r->out_stride = 3 * (size_t)r->out_width;
    if (!scratch_need(&w->resized, r->out_stride * (size_t)r->out_height, err))
        return false;
    r->out = w->resized.data;
    return resample_begin(&w->resample, r, err) &&
           jpeg_decoder_read(d, g->denominator, &w->resample, &w->rows, err);
}

bool jpeg_fit(struct image_worker *w, const struct fit_request *request,
              const struct image_header *header, struct picture *ret, struct error *err)
{
    CLEANUP(jpeg_decoder_done) struct jpeg_decoder d;
    double start = clock_monotonic_s(), middle;
    struct jpeg_metadata metadata;
    struct geometry g;
    struct image_stages stages;

    if (!jpeg_decoder_open(&d, request->input->data, request->input->cancelled, err) ||
        !jpeg_metadata_read(request->input->data, &w->profile, &metadata, err))
        return false;
    if ((int)d.codec.image_width != header->width || (int)d.codec.image_height != header->height ||
        d.codec.num_components != header->bands)
        return error_set(err, ERROR_BAD_IMAGE, "the image contradicts its own header");
    if (!make_geometry(&d, metadata.orientation, request, &g, err) || !decode(w, &d, &g, err))
        return false;
    middle = clock_monotonic_s();
    stages.decode = middle - start - d.resample_s;
    if (!colours_to_srgb(&w->colours, metadata.profile,
                         &(struct colours_pixels){
                             .rgb = g.resample.out,
                             .count = (size_t)g.resample.out_width * (size_t)g.resample.out_height,
                             .bands = header->bands,
                         },
                         err) ||
        !place(w, &g, request->background, ret, err))
        return false;
    stages.transform = clock_monotonic_s() - middle + d.resample_s;
    stages.encode = 0;
    ret->stages = stages;
    return true;
}
