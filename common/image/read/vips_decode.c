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

static bool box_shrink(VipsImage **image, int factor, struct error *err)
{
    VipsImage *out = NULL;

    if (vips_shrink(*image, &out, factor, factor, "ceil", TRUE, NULL) != 0)
        return image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
    image_replace(image, out);
    return true;
}

static bool contradiction(struct error *err)
{
    return error_set(err, ERROR_BAD_IMAGE, "the image contradicts its own header");
}

/* The header's size was checked against the limits; the loader must not know a larger one. */
static bool check_size(const VipsImage *image, const struct image_header *header, struct error *err)
{
    return ((int64_t)image->Xsize * image->Ysize <= (int64_t)header->width * header->height &&
            (image->Bands <= header->bands || image->Bands <= 4)) ||
           contradiction(err);
}

/* A TIFF's header knows what its bands are, unless libvips made others of them (palettes, JPEG). */
static struct channels find_channels(VipsImage *image, const struct image_header *header)
{
    if (image->Coding != VIPS_CODING_NONE)
        return (struct channels){image->Bands, -1};
    if (header->format == IMAGE_TIFF && image->Bands == header->bands)
        return (struct channels){header->colours, header->alpha};
    if (vips_image_hasalpha(image))
        return (struct channels){image->Bands - 1, image->Bands - 1};
    return (struct channels){image->Bands, -1};
}

/* Replaces the image's profile. */
static bool set_colours(VipsImage **image, const struct cicp *cicp, struct error *err)
{
    CLEANUP(buffer_done) struct buffer profile = BUFFER_MAX(1 << 20);
    bool grey = vips_image_hasalpha(*image) ? (*image)->Bands < 4 : (*image)->Bands < 3;
    VipsImage *out = NULL;

    if (cicp_differs(cicp) && !cicp_profile(cicp, grey, &profile, err))
        return false;
    if (vips_copy(*image, &out, NULL) != 0)
        return image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
    image_replace(image, out);
    if (profile.len > 0)
        vips_image_set_blob_copy(out, VIPS_META_ICC_NAME, profile.data, profile.len);
    else
        (void)vips_image_remove(out, VIPS_META_ICC_NAME);
    return true;
}

/* What the file says about its pixels, and libvips does not do. */
static bool complete(VipsImage **image, struct bytes data, enum image_format format,
                     struct error *err)
{
    if (format == IMAGE_PNG) {
        struct cicp cicp = png_cicp_read(data);

        return cicp.transfer == 0 || set_colours(image, &cicp, err);
    }
    if (format == IMAGE_AVIF || format == IMAGE_HEIC) {
        struct heif_item item = heif_item_read(data);

        if (item.grey && item.narrow &&
            !pixels_widen(image, (*image)->Bands - vips_image_hasalpha(*image), err))
            return false;
        if (item.premultiplied && vips_image_hasalpha(*image) && !pixels_unpremultiply(image, err))
            return false;
        return item.profile || !cicp_differs(&item.cicp) || set_colours(image, &item.cicp, err);
    }
    return true;
}

/* What the first frame of a GIF does not cover is background. libvips leaves it black, or away. */
static bool put_on_canvas(VipsImage **image, const struct image_header *header,
                          const struct fit_request *request, struct error *err)
{
    const struct image_rect *f = &header->frame;

    if (f->left + f->width > (*image)->Xsize || f->top + f->height > (*image)->Ysize ||
        (*image)->Bands != 3)
        return contradiction(err);
    return pixels_render(image, request->input->cancelled, err) &&
           pixels_put_on_canvas(image, f, &(struct image_size){header->width, header->height},
                                request->background, err);
}

static bool is_framed(const struct image_header *h)
{
    return h->format == IMAGE_GIF && (h->frame.width < h->width || h->frame.height < h->height);
}

/* Colours next to transparency or a canvas may only be mixed once they are flattened, and the
 * background is sRGB. Others convert their colours when they are small. */
static bool prepare(VipsImage **image, const struct image_header *header,
                    const struct fit_request *request, int boxes, struct colours *colours,
                    struct error *err)
{
    struct channels channels = find_channels(*image, header);
    bool framed = is_framed(header), mixed = framed || channels.alpha >= 0;

    if (image_keeps_channels(request) && channels.alpha >= 0 && !framed)
        return pixels_to_srgb(image, channels, colours, err) &&
               pixels_render(image, request->input->cancelled, err);
    if (mixed && (!pixels_to_srgb(image, channels, colours, err) ||
                  !pixels_flatten(image, request->background, err)))
        return false;
    if (framed && !put_on_canvas(image, header, request, err))
        return false;
    if (boxes > 1 && !box_shrink(image, boxes, err))
        return false;
    return (mixed || (pixels_to_srgb(image, channels, colours, err) &&
                      pixels_flatten(image, request->background, err))) &&
           pixels_render(image, request->input->cancelled, err);
}

static bool load_other(const struct image_header *header, const struct fit_request *request,
                       struct geometry *g, VipsImage **image, struct error *err)
{
    struct bytes data = request->input->data;
    struct image_size size;

    if (!image_load(data, header->format, image, err) || !check_size(*image, header, err) ||
        !complete(image, data, header->format, err))
        return false;
    size = is_framed(header) ? (struct image_size){header->width, header->height}
                             : (struct image_size){(*image)->Xsize, (*image)->Ysize};
    if (!geometry_plan(g, &size, vips_image_get_orientation(*image), request, err))
        return false;
    g->joined = geometry_spare(g);
    return true;
}

bool image_decode(struct image_scratch *w, const struct image_header *header,
                  const struct fit_request *request, struct geometry *g, VipsImage **ret,
                  struct error *err)
{
    struct image_input input = *request->input;
    struct fit_request asked = *request;
    CLEANUP(buffer_done) struct buffer first_page = BUFFER_MAX(input.data.len);
    CLEANUP_IMAGE VipsImage *image = NULL;
    bool jpeg = header->format == IMAGE_JPEG;

    asked.input = &input;
    if (header->format == IMAGE_TIFF && header->pages > 1) {
        if (!tiff_first_page(input.data, &first_page, err))
            return false;
        input.data = buffer_view(&first_page);
    }
    if (!(jpeg ? load_jpeg : load_other)(header, &asked, g, &image, err) ||
        !prepare(&image, header, &asked, jpeg ? 1 : g->joined, &w->colours, err))
        return false;
    g->decoded = (struct image_size){image->Xsize, image->Ysize};
    if (image->Xsize < g->width / g->joined || image->Ysize < g->height / g->joined ||
        (image->Bands != 3 && !(image->Bands == 4 && image_keeps_channels(request))))
        return contradiction(err);
    *ret = TAKE_PTR(image);
    return true;
}
