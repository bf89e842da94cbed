/* The last step: turned upright, and padded. */
#include "image/geometry.h"

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

bool geometry_finish(const struct geometry *g, struct image_worker *worker, uint32_t background,
                     struct picture *ret, struct error *err)
{
    const struct fit_plan *p = &g->plan;
    const struct turn t = g->turn;
    size_t stride = 3 * (size_t)p->canvas_width;
    int width = t.swap ? g->resample.out_height : g->resample.out_width;
    int height = t.swap ? g->resample.out_width : g->resample.out_height;
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
    copy_turned(worker->canvas.data + (size_t)top * stride + 3 * (size_t)left, stride, &g->resample,
                t);
    return true;
}
