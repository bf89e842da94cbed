#include "image/ops/geometry.h"

#include <math.h>

/* EXIF 2.3, 4.6.4, Orientation */
static struct turn turn_of(int orientation)
{
    return (struct turn){
        .swap = orientation >= 5,
        .mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8,
        .mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7,
    };
}

bool geometry_plan(struct geometry *g, const struct image_size *stored, int orientation,
                   const struct fit_request *request, struct error *err)
{
    int width = stored->width, height = stored->height;

    *g = (struct geometry){.width = width,
                           .height = height,
                           .joined = 1,
                           .decoded = *stored,
                           .turn = turn_of(orientation)};
    return g->turn.swap ? request->plan(request->context, height, width, &g->plan, err)
                        : request->plan(request->context, width, height, &g->plan, err);
}

int geometry_spare(const struct geometry *g)
{
    enum { MOST = 4096 };
    const struct fit_plan *p = &g->plan;
    double least = fmin(p->window_width / p->width, p->window_height / p->height) / RESIZE_RESERVE;

    return least < 2 ? 1 : least > MOST ? MOST : (int)least;
}

bool geometry_is_whole(const struct geometry *g)
{
    const struct fit_plan *p = &g->plan;

    return !g->turn.swap && !g->turn.mirror_x && !g->turn.mirror_y && p->window_width == g->width &&
           p->window_height == g->height && p->width == g->width && p->height == g->height &&
           p->canvas_width == g->width && p->canvas_height == g->height;
}

/* Along one upright axis of the decoded picture, where the file's has `length` pixels: [from,
 * from + size) become `out` pixels. */
struct stretch {
    double from, size, length;
    int out;
};

/* What is not resized is not shifted by a fraction of a pixel either.
 * Only the pixels that the canvas shows are made: [skip, skip + shown) of `out`. */
static struct stretch stretch(struct stretch s, int skip, int shown)
{
    if (round(s.size) == s.out) {
        s.size = s.out;
        s.from = fmin(round(s.from), s.length - s.size);
    }
    if (skip > 0) {
        double pixel = s.size / s.out;

        s.from += skip * pixel;
        s.size = shown * pixel;
        s.out = shown;
    }
    return s;
}

static double start_of(const struct stretch *s, bool mirror)
{
    return mirror ? s->length - s->from - s->size : s->from;
}

static void make_resample(struct geometry *g)
{
    const struct fit_plan *p = &g->plan;
    struct stretch across = {.length = (double)g->width / g->joined};
    struct stretch down = {.length = (double)g->height / g->joined};
    struct stretch *x = g->turn.swap ? &down : &across, *y = g->turn.swap ? &across : &down;

    x->from = p->left / g->joined;
    x->size = p->window_width / g->joined;
    x->out = p->width;
    y->from = p->top / g->joined;
    y->size = p->window_height / g->joined;
    y->out = p->height;
    *x = stretch(*x, -p->canvas_left, p->canvas_width);
    *y = stretch(*y, -p->canvas_top, p->canvas_height);
    g->resample = (struct resample_plan){
        .src_width = g->decoded.width,
        .src_height = g->decoded.height,
        .left = g->lead_x + start_of(&across, g->turn.mirror_x),
        .top = g->lead_y + start_of(&down, g->turn.mirror_y),
        .width = across.size,
        .height = down.size,
        .out_width = across.out,
        .out_height = down.out,
    };
}

bool geometry_begin(struct geometry *g, struct image_scratch *scratch, struct error *err)
{
    struct resample_plan *r = &g->resample;

    make_resample(g);
    r->out_stride = 3 * (size_t)r->out_width;
    if (!scratch_buffer_need(&scratch->resized, r->out_stride * (size_t)r->out_height, err))
        return false;
    r->out = scratch->resized.data;
    return resample_begin(&scratch->resample, r, err);
}

/* ---- the last step: turned upright, and padded ---- */

static void fill(uint8_t *rgb, size_t pixels, uint32_t colour)
{
    for (size_t i = 0; i < pixels; i++) {
        rgb[3 * i] = (uint8_t)(colour >> 16);
        rgb[3 * i + 1] = (uint8_t)(colour >> 8);
        rgb[3 * i + 2] = (uint8_t)colour;
    }
}

struct turned turned_view(const uint8_t *pixels, int bands, struct image_size stored,
                          struct turn turn)
{
    ptrdiff_t pixel = bands, row = pixel * stored.width;
    struct turned t = {.corner = pixels};

    if (turn.mirror_x) {
        t.corner += (stored.width - 1) * pixel;
        pixel = -pixel;
    }
    if (turn.mirror_y) {
        t.corner += (stored.height - 1) * row;
        row = -row;
    }
    t.across = turn.swap ? row : pixel;
    t.down = turn.swap ? pixel : row;
    return t;
}

static void copy_turned(uint8_t *to, size_t to_stride, const struct turned *from,
                        struct image_size size)
{
    for (int y = 0; y < size.height; y++) {
        const uint8_t *p = from->corner + y * from->down;
        uint8_t *q = to + (size_t)y * to_stride;

        for (int x = 0; x < size.width; x++, q += 3, p += from->across) {
            q[0] = p[0];
            q[1] = p[1];
            q[2] = p[2];
        }
    }
}

bool geometry_finish(const struct geometry *g, struct image_scratch *scratch, uint32_t background,
                     struct picture *ret, struct error *err)
{
    const struct fit_plan *p = &g->plan;
    const struct turn t = g->turn;
    size_t stride = 3 * (size_t)p->canvas_width;
    struct image_size made = {g->resample.out_width, g->resample.out_height};
    struct turned view = turned_view(g->resample.out, 3, made, t);
    int width = t.swap ? made.height : made.width, height = t.swap ? made.width : made.height;
    int left = p->canvas_left > 0 ? p->canvas_left : 0, top = p->canvas_top > 0 ? p->canvas_top : 0;
    bool padded = width != p->canvas_width || height != p->canvas_height;

    *ret = (struct picture){
        .rgb = g->resample.out, .width = p->canvas_width, .height = p->canvas_height};
    if (!padded && !t.swap && !t.mirror_x && !t.mirror_y)
        return true;
    if (!scratch_buffer_need(&scratch->canvas, stride * (size_t)p->canvas_height, err))
        return false;
    ret->rgb = scratch->canvas.data;
    if (padded)
        fill(scratch->canvas.data, (size_t)p->canvas_width * (size_t)p->canvas_height, background);
    copy_turned(scratch->canvas.data + (size_t)top * stride + 3 * (size_t)left, stride, &view,
                (struct image_size){width, height});
    return true;
}
