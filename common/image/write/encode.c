#include "image/private.h"
#include "image/scratch.h"
#include "image/write/jpeg_encode.h"

#include <string.h>

/* Debian 12 has libvips 8.14, Debian 13 8.16. */
#if VIPS_MAJOR_VERSION > 8 || (VIPS_MAJOR_VERSION == 8 && VIPS_MINOR_VERSION >= 15)
#define NO_METADATA "keep", VIPS_FOREIGN_KEEP_NONE
#else
#define NO_METADATA "strip", TRUE
#endif

/* AVIF at the default effort of 4 costs seconds of CPU a megapixel; 1 keeps a request short.
 * libheif runs libaom with up to 4 threads, which libvips cannot change (measured: CPU time / time
 * = 1.3). */
enum { PNG_COMPRESSION = 6, WEBP_EFFORT = 4, AVIF_EFFORT = 1 };

static void stop_when_cancelled(VipsImage *image, VipsProgress *progress, const atomic_bool **flag)
{
    (void)progress;
    if (atomic_load_explicit(*flag, memory_order_relaxed))
        vips_image_set_kill(image, TRUE);
}

static int save(VipsImage *image, const struct image_options *options, void **data, size_t *len)
{
    switch (options->format) {
    case IMAGE_PNG:
        return vips_pngsave_buffer(image, data, len, "compression", PNG_COMPRESSION, NO_METADATA,
                                   NULL);
    case IMAGE_WEBP:
        return vips_webpsave_buffer(image, data, len, "Q", image_options_quality(options), "effort",
                                    WEBP_EFFORT, NO_METADATA, NULL);
    case IMAGE_AVIF:
        return vips_heifsave_buffer(image, data, len, "compression",
                                    VIPS_FOREIGN_HEIF_COMPRESSION_AV1, "Q",
                                    image_options_quality(options), "bitdepth", 8, "effort",
                                    AVIF_EFFORT, NO_METADATA, NULL);
    case IMAGE_JPEG:
    case IMAGE_GIF:
    case IMAGE_TIFF:
    case IMAGE_HEIC:
    case IMAGE_UNKNOWN:
        break;
    }
    return -1;
}

/* libvips 8.14 adds an EXIF chunk to every WebP, whatever it is told (with nothing of the source in
 * it). A whole file is RIFF, its size, WEBP, and the picture's own chunk; with alpha, VP8X before
 * it, and ALPH unless it is lossless. */
static bool webp_is_picture(uint8_t *chunk, bool alpha)
{
    enum { FLAGS = 8, HAS_ALPHA = 0x10 };

    if (alpha && memcmp(chunk, "VP8X", 4) == 0)
        chunk[FLAGS] &= HAS_ALPHA;
    return memcmp(chunk, "VP8 ", 4) == 0 || memcmp(chunk, "VP8L", 4) == 0 ||
           (alpha && (memcmp(chunk, "VP8X", 4) == 0 || memcmp(chunk, "ALPH", 4) == 0));
}

static void webp_keep_picture(uint8_t *data, size_t *len, bool alpha)
{
    enum { HEADER = 12, CHUNK_HEADER = 8 };
    size_t end = HEADER;

    for (size_t pos = HEADER; *len >= CHUNK_HEADER && pos <= *len - CHUNK_HEADER;) {
        uint8_t *p = data + pos;
        size_t size = (size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16 | (size_t)p[7] << 24;

        size += CHUNK_HEADER + (size & 1);
        if (size > *len - pos)
            return;
        pos += size;
        if (!webp_is_picture(p, alpha))
            continue;
        memmove(data + end, p, size);
        end += size;
    }
    for (int i = 0; i < 4; i++)
        data[4 + i] = (uint8_t)((end - 8) >> (8 * i));
    *len = end;
}

/* The encoders get an image of their own over the same pixels: nothing of the source's metadata
 * can reach them. */
static bool encode_by_libvips(const struct encode_request *request, const struct picture *picture,
                              void **data, size_t *len, struct error *err)
{
    const struct image_options *options = request->options;
    const int bands = picture->alpha ? 4 : 3;
    size_t size = (size_t)bands * (size_t)picture->width * (size_t)picture->height;
    const atomic_bool *cancelled = request->cancelled;

    if (!image_vips_start(err))
        return false;
    CLEANUP_IMAGE VipsImage *bare = vips_image_new_from_memory(
        picture->rgb, size, picture->width, picture->height, bands, VIPS_FORMAT_UCHAR);

    if (bare == NULL)
        return image_vips_failed(err, ERROR_INTERNAL, "no image could be made");
    bare->Type = VIPS_INTERPRETATION_sRGB;
    if (request->cancelled != NULL) {
        g_signal_connect(bare, "eval", G_CALLBACK(stop_when_cancelled), &cancelled);
        vips_image_set_progress(bare, TRUE);
    }
    if (picture->grey && options->format == IMAGE_PNG) {
        VipsImage *one = NULL;

        if (vips_extract_band(bare, &one, 0, NULL) != 0)
            return image_vips_failed(err, ERROR_INTERNAL, "no image could be made");
        image_replace(&bare, one);
        bare->Type = VIPS_INTERPRETATION_B_W;
    }
    if (save(bare, options, data, len) == 0) {
        if (options->format == IMAGE_WEBP)
            webp_keep_picture(*data, len, picture->alpha);
        return true;
    }
    vips_error_clear();
    return image_cancelled_check(request->cancelled, err) &&
           error_set(err, ERROR_INTERNAL, "the result could not be written as %s",
                     image_format_name(options->format));
}

static bool encode_jpeg(struct jpeg_encoder *encoder, const struct encode_request *request,
                        const struct picture *picture, struct image_result *ret, struct error *err)
{
    struct jpeg_encode what = {picture, image_options_quality(request->options),
                               request->cancelled};
    struct scratch_buffer out = {0}; /* handed over */

    if (!jpeg_encode(encoder, &what, &out, &ret->len, err)) {
        scratch_buffer_done(&out);
        return false;
    }
    ret->data = out.data;
    ret->release = free;
    return true;
}

bool image_encode_check(const struct image_options *options, struct error *err)
{
    return image_can_encode(options->format) ||
           error_set(err, ERROR_BAD_REQUEST, "format: this server cannot write %s",
                     image_format_name(options->format));
}

bool image_encode(struct image_scratch *scratch, const struct encode_request *request,
                  const struct picture *picture, struct image_result *ret, struct error *err)
{
    void *data = NULL;

    if (!image_cancelled_check(request->cancelled, err))
        return false;
    if (request->options->format == IMAGE_JPEG)
        return encode_jpeg(scratch->encoder, request, picture, ret, err);
    if (!encode_by_libvips(request, picture, &data, &ret->len, err))
        return false;
    ret->data = data;
    ret->release = g_free;
    return true;
}
