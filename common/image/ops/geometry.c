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

/* Along one upright axis of the decoded picture, which has `length` pixels: [from, from + size)
 * become `out` pixels. */
struct stretch {
    double from, size;
    int length, out;
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
    struct stretch across = {.length = g->decoded.width}, down = {.length = g->decoded.height};
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
        .left = start_of(&across, g->turn.mirror_x),
        .top = start_of(&down, g->turn.mirror_y),
        .width = across.size,
        .height = down.size,
        .out_width = across.out,
        .out_height = down.out,
    };
}

bool geometry_begin(struct geometry *g, struct image_worker *worker, struct error *err)
{
    struct resample_plan *r = &g->resample;

    make_resample(g);
    r->out_stride = 3 * (size_t)r->out_width;
    if (!scratch_need(&worker->resized, r->out_stride * (size_t)r->out_height, err))
        return false;
    r->out = worker->resized.data;
    return resample_begin(&worker->resample, r, err);
}
