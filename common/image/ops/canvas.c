/* The last step: turned upright, and padded. */
#include "image/ops/geometry.h"

static void fill(uint8_t *rgb, size_t pixels, uint32_t colour)
{
    for (size_t i = 0; i < pixels; i++) {
        rgb[3 * i] = (uint8_t)(colour >> 16);
        rgb[3 * i + 1] = (uint8_t)(colour >> 8);
        rgb[3 * i + 2] = (uint8_t)colour;
    }
}

struct turned turned_view(const uint8_t *rgb, struct image_size stored, struct turn turn)
{
    ptrdiff_t pixel = 3, row = 3 * (ptrdiff_t)stored.width;
    struct turned t = {.corner = rgb};

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

bool geometry_finish(const struct geometry *g, struct image_worker *worker, uint32_t background,
                     struct picture *ret, struct error *err)
{
    const struct fit_plan *p = &g->plan;
    const struct turn t = g->turn;
    size_t stride = 3 * (size_t)p->canvas_width;
    struct image_size made = {g->resample.out_width, g->resample.out_height};
    struct turned view = turned_view(g->resample.out, made, t);
    int width = t.swap ? made.height : made.width, height = t.swap ? made.width : made.height;
    int left = p->canvas_left > 0 ? p->canvas_left : 0, top = p->canvas_top > 0 ? p->canvas_top : 0;
    bool padded = width != p->canvas_width || height != p->canvas_height;

    *ret = (struct picture){
        .rgb = g->resample.out, .width = p->canvas_width, .height = p->canvas_height};
    if (!padded && !t.swap && !t.mirror_x && !t.mirror_y)
        return true;
    if (!scratch_need(&worker->canvas, stride * (size_t)p->canvas_height, err))
        return false;
    ret->rgb = worker->canvas.data;
    if (padded)
        fill(worker->canvas.data, (size_t)p->canvas_width * (size_t)p->canvas_height, background);
    copy_turned(worker->canvas.data + (size_t)top * stride + 3 * (size_t)left, stride, &view,
                (struct image_size){width, height});
    return true;
}
