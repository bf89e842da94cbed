/* A JPEG as a picture of libvips: CMYK, which is resized when its colours are converted. (libvips'
 * loader judges a file by the number of libjpeg's warnings, whatever they are about.) */
#include "image/read/jpeg.h"
#include "image/read/jpeg_decode.h"

static VipsImage *new_picture(const struct image_header *header, int denominator)
{
    VipsImage *image = vips_image_new_memory();

    vips_image_init_fields(image, (header->width + denominator - 1) / denominator,
                           (header->height + denominator - 1) / denominator, header->bands,
                           VIPS_FORMAT_UCHAR, VIPS_CODING_NONE,
                           header->bands == 4   ? VIPS_INTERPRETATION_CMYK
                           : header->bands == 3 ? VIPS_INTERPRETATION_sRGB
                                                : VIPS_INTERPRETATION_B_W,
                           1, 1);
    if (vips_image_write_prepare(image) == 0)
        return image;
    g_object_unref(image);
    vips_error_clear();
    return NULL;
}

bool jpeg_load(const struct image_input *input, const struct image_header *header, int denominator,
               struct bytes profile, VipsImage **ret, struct error *err)
{
    CLEANUP(jpeg_decoder_done) struct jpeg_decoder d;
    CLEANUP_IMAGE VipsImage *image = NULL;

    if (!jpeg_decoder_open(&d, input, header, err))
        return false;
    if (!image_vips_start(err))
        return false;
    image = new_picture(header, denominator);
    if (image == NULL)
        return error_oom(err);
    if (!jpeg_decoder_read_whole(&d, denominator, image->data, err))
        return false;
    if (header->bands == 4) { /* to ink, where Adobe's inverted numbers are all that is in use */
        size_t len = pixels_line_size(image) * (size_t)image->Ysize;

        for (size_t i = 0; i < len; i++)
            image->data[i] = (uint8_t)~image->data[i];
    }
    if (profile.len > 0)
        vips_image_set_blob_copy(image, VIPS_META_ICC_NAME, profile.data, profile.len);
    *ret = TAKE_PTR(image);
    return true;
}
