/* From the file to an upright picture in memory.
 *
 * A file is always read to its end, whatever part of the picture is wanted: a truncated tail must
 * not go unnoticed because cropping would not have looked at it. So all rows are rendered here;
 * cropping comes later, on the picture in memory. To keep that picture small, whatever is much
 * larger than what is wanted is shrunk on the way: JPEG inside the decoder (a smaller inverse DCT),
 * the rest by a box filter. A factor of two is left for the good filter of the final resize.
 *
 * This is the way of everything but ordinary JPEG (jpeg_fit.c). */
#include "image/ops/geometry.h"
#include "image/read/jpeg.h"

/* The header's size was checked against the limits; the loader must not know a larger one. */
static bool check_size(const VipsImage *image, const struct image_header *header, struct error *err)
{
    if ((int64_t)image->Xsize * image->Ysize > (int64_t)header->width * header->height ||
        image->Bands > 5)
        return error_set(err, ERROR_BAD_IMAGE, "the image contradicts its own header");
    return true;
}

/* As small as the decoder's inverse DCT can make it. */
static bool load_jpeg(const struct image_header *header, const struct fit_request *request,
                      struct geometry *g, VipsImage **image, struct error *err)
{
    CLEANUP(scratch_buffer_done) struct scratch_buffer joined = {0};
    struct jpeg_metadata metadata;

    if (!jpeg_metadata_read(request->input->data, &joined, &metadata, err) ||
        !geometry_plan(g, &(struct image_size){header->width, header->height}, metadata.orientation,
                       request, err))
        return false;
    g->joined = jpeg_scale(geometry_spare(g));
    return jpeg_load(request->input, header, g->joined, metadata.profile, image, err);
}

static bool load_other(const struct image_header *header, const struct fit_request *request,
                       struct geometry *g, VipsImage **image, struct error *err)
{
    if (!image_load(request->input->data, header->format, image, err) ||
        !check_size(*image, header, err) ||
        !geometry_plan(g, &(struct image_size){(*image)->Xsize, (*image)->Ysize},
                       vips_image_get_orientation(*image), request, err))
        return false;
    g->joined = geometry_spare(g);
    return true;
}

static bool box_shrink(VipsImage **image, int factor, struct error *err)
{
    VipsImage *out = NULL;

    if (vips_shrink(*image, &out, factor, factor, "ceil", TRUE, NULL) != 0)
        return image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
    image_replace(image, out);
    return true;
}

/* Colours next to transparency may only be mixed once they are flattened, and the background is
 * sRGB. Opaque images convert their colours when they are small. */
static bool prepare(VipsImage **image, const struct fit_request *request, int boxes,
                    struct error *err)
{
    bool alpha = vips_image_hasalpha(*image);

    if (alpha && (!pixels_to_srgb(image, err) || !pixels_flatten(image, request->background, err)))
        return false;
    if (boxes > 1 && !box_shrink(image, boxes, err))
        return false;
    return (alpha ||
            (pixels_to_srgb(image, err) && pixels_flatten(image, request->background, err))) &&
           pixels_render(image, request->input->cancelled, err);
}

bool image_decode(const struct image_header *header, const struct fit_request *request,
                  struct geometry *g, VipsImage **ret, struct error *err)
{
    CLEANUP_IMAGE VipsImage *image = NULL;
    bool jpeg = header->format == IMAGE_JPEG;

    if (!(jpeg ? load_jpeg : load_other)(header, request, g, &image, err) ||
        !prepare(&image, request, jpeg ? 1 : g->joined, err))
        return false;
    g->decoded = (struct image_size){image->Xsize, image->Ysize};
    if (image->Xsize < g->width / g->joined || image->Ysize < g->height / g->joined ||
        image->Bands != 3)
        return error_set(err, ERROR_BAD_IMAGE, "the image contradicts its own header");
    *ret = TAKE_PTR(image);
    return true;
}
