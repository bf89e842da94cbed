/* From the file to an upright picture in memory.
 *
 * A file is always read to its end, whatever part of the picture is wanted: a truncated tail must
 * not go unnoticed because cropping would not have looked at it. So all rows are rendered here;
 * cropping comes later, on the picture in memory. To keep that picture small, whatever is much
 * larger than what is wanted is shrunk on the way: JPEG inside the decoder (a smaller inverse DCT),
 * the rest by a box filter. A factor of two is left for the good filter of the final resize.
 *
 * This is the way of everything but ordinary JPEG (jpeg_fit.c). */
#include "image/internal.h"

void decoded_done(struct decoded *decoded)
{
    cleanup_vips_image(&decoded->image);
}

/* 2, 3, ...: how many source pixels may be joined into one; 1 for none. */
static int spare_factor(const struct fit_plan *plan)
{
    double x = plan->window_width / plan->width, y = plan->window_height / plan->height;
    double least = VIPS_MIN(x, y) / RESIZE_RESERVE;

    return least < 2 ? 1 : (int)VIPS_MIN(least, 4096);
}

static bool load_shrunk_jpeg(struct bytes data, int factor, VipsImage **image, struct error *err)
{
    VipsImage *shrunk = NULL;

    if (!image_load(data, IMAGE_JPEG, factor >= 8 ? 8 : factor >= 4 ? 4 : 2, &shrunk, err))
        return false;
    image_replace(image, shrunk);
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

static bool turn_upright(VipsImage **image, struct error *err)
{
    VipsImage *out = NULL;

    if (vips_image_get_orientation(*image) == 1)
        return true;
    if (vips_autorot(*image, &out, NULL) != 0)
        return image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
    image_replace(image, out);
    return true;
}

/* The header's size was checked against the limits; the loader must not know a larger one. */
static bool check_size(const VipsImage *image, const struct image_header *header, struct error *err)
{
    if ((int64_t)image->Xsize * image->Ysize > (int64_t)header->width * header->height ||
        image->Bands > 5)
        return error_set(err, ERROR_BAD_IMAGE, "the image contradicts its own header");
    return true;
}

static bool make_plan(VipsImage *image, const struct fit_request *request, struct decoded *ret,
                      struct error *err)
{
    bool swap = vips_image_get_orientation_swap(image);

    ret->width = swap ? image->Ysize : image->Xsize;
    ret->height = swap ? image->Xsize : image->Ysize;
    return request->plan(request->context, ret->width, ret->height, &ret->plan, err);
}

bool image_decode(const struct image_header *header, const struct fit_request *request,
                  struct decoded *ret, struct error *err)
{
    CLEANUP(decoded_done) struct decoded d = {0};
    struct bytes data = request->input->data;
    int factor;

    if (!image_load(data, header->format, 1, &d.image, err) || !check_size(d.image, header, err) ||
        !make_plan(d.image, request, &d, err))
        return false;
    factor = spare_factor(&d.plan);
    if (factor > 1 && header->format == IMAGE_JPEG &&
        !load_shrunk_jpeg(data, factor, &d.image, err))
        return false;
    /* Colours next to transparency may only be mixed once they are flattened, and the background
     * is sRGB. Opaque images convert their colours when they are small. */
    if (vips_image_hasalpha(d.image)) {
        if (!pixels_to_srgb(&d.image, err) || !pixels_flatten(&d.image, request->background, err))
            return false;
        d.ready = true;
    }
    if (factor > 1 && header->format != IMAGE_JPEG && !box_shrink(&d.image, factor, err))
        return false;
    if (!pixels_render(&d.image, request->input->cancelled, err) || !turn_upright(&d.image, err))
        return false;
    *ret = d;
    d.image = NULL;
    return true;
}
