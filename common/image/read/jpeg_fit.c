/* A JPEG from the file to the picture that was asked for, in one pass over its rows: decoded no
 * larger and no wider than needed, resized as the rows come, and only then, when it is small,
 * converted to sRGB, turned upright and padded. */
#include "base/clock.h"
#include "image/ops/geometry.h"
#include "image/read/jpeg.h"
#include "image/read/jpeg_decode.h"

bool jpeg_fits(const struct image_header *header)
{
    return header->format == IMAGE_JPEG && (header->bands == 1 || header->bands == 3);
}

int jpeg_scale(int spare)
{
    return spare >= 8 ? 8 : spare >= 4 ? 4 : spare >= 2 ? 2 : 1;
}

/* The resized picture, as it is stored. */
static bool decode(struct jpeg_decoder *d, struct geometry *g, struct image_scratch *w,
                   struct error *err)
{
    g->joined = jpeg_scale(geometry_spare(g));
    g->decoded.width = (g->width + g->joined - 1) / g->joined;
    g->decoded.height = (g->height + g->joined - 1) / g->joined;
    return geometry_begin(g, w, err) &&
           jpeg_decoder_read(d, g->joined, &w->resample, &w->rows, err);
}

static bool to_srgb(const struct geometry *g, const struct jpeg_metadata *metadata, int bands,
                    struct image_scratch *w, struct error *err)
{
    struct colours_pixels pixels = {
        .rgb = g->resample.out,
        .count = (size_t)g->resample.out_width * (size_t)g->resample.out_height,
        .bands = bands,
    };

    return colours_to_srgb(&w->colours, metadata->profile, &pixels, err);
}

bool jpeg_fit(struct image_scratch *w, const struct fit_request *request,
              const struct image_header *header, struct picture *ret, struct error *err)
{
    CLEANUP(jpeg_decoder_done) struct jpeg_decoder d;
    struct image_size stored = {header->width, header->height};
    double start = clock_monotonic_s(), middle;
    struct jpeg_metadata metadata;
    struct geometry g;

    if (!jpeg_decoder_open(&d, request->input, header, err) ||
        !jpeg_metadata_read(request->input->data, &w->profile, &metadata, err))
        return false;
    if (!geometry_plan(&g, &stored, metadata.orientation, request, err) || !decode(&d, &g, w, err))
        return false;
    middle = clock_monotonic_s();
    if (!to_srgb(&g, &metadata, header->bands, w, err) ||
        !geometry_finish(&g, w, request->background, ret, err))
        return false;
    ret->stages = (struct image_stages){
        .decode = middle - start - d.resample_s,
        .transform = clock_monotonic_s() - middle + d.resample_s,
    };
    return true;
}
