/* What the files of this folder share. Nothing outside common/image includes this.
 *
 *   sniff -> probe -> jpeg_fit          -> resample -> geometry -> encode
 *                 \-> decode (libvips) -/                       \-> tensor
 */
#pragma once

#include "image/image.h"
#include "image/read/cicp.h"
#include "image/read/vips_api.h"
#include "image/scratch_buffer.h"

/* Fails with ERROR_DEADLINE once *cancelled is set. */
bool image_cancelled_check(const atomic_bool *cancelled, struct error *err) NODISCARD;

/* libvips' error buffer is shared by all threads, so it says nothing certain about this call: it
 * is emptied, and the caller's words are used. Always returns false. */
bool image_vips_failed(struct error *err, enum error_code code, const char *what);

static inline void cleanup_vips_image(VipsImage **image)
{
    if (*image != NULL)
        g_object_unref(*image);
}
#define CLEANUP_IMAGE CLEANUP(cleanup_vips_image)

/* Replace *image by what a libvips call made of it. */
static inline void image_replace(VipsImage **image, VipsImage *with)
{
    g_object_unref(*image);
    *image = with;
}

/* Whether this build of libvips and libheif reads or writes a HEIF codec. The HEIF module is loaded
 * on first use. */
bool image_can_decode(enum image_format format);
bool image_can_encode(enum image_format format);

/* Whether the result of `asked` may be width x height. ERROR_BAD_REQUEST names the option. */
bool image_output_check(const struct image_options *asked, int width, int height,
                        struct error *err) NODISCARD;

/* --- headers: own parsers, which allocate nothing --- */

struct jpeg_header {
    int width, height, components;
    bool progressive;
    bool coefficients; /* the decoder keeps all of them: progressive, or several scans */
    int64_t samples;   /* of all components, padded to whole blocks */
    bool ones;         /* as in struct image_header */
};
/* Walks all markers up to the end of the image, so that a truncated file is noticed here. */
bool jpeg_header_read(struct bytes data, struct jpeg_header *ret, struct error *err) NODISCARD;

/* The data of a PNG's first chunk of that type before the pixels; empty without one. */
struct bytes png_chunk(struct bytes data, const char *type);

struct tiff_header {
    int width, height, pages, bits;
    int bands;
    bool grey;     /* one band, and no palette */
    int colours;   /* the first of them; the rest is extra */
    int alpha;     /* the extra one that is transparency; -1: none */
    int64_t chunk; /* pixels of one strip or tile */
};
/* ERROR_BAD_IMAGE; ERROR_UNSUPPORTED_MEDIA names the kind of TIFF that is not read. */
bool tiff_header_read(struct bytes data, struct tiff_header *ret, struct error *err) NODISCARD;
/* A file of the first page alone, since libvips would look at all. Appended to *ret. */
bool tiff_first_page(struct bytes data, struct buffer *ret, struct error *err) NODISCARD;

/* What an HEIF file (HEIC, AVIF) says about the pixels of its primary item; what it does not say,
 * or cannot be found, is zero. */
struct heif_item {
    bool premultiplied;
    bool grey;
    bool narrow;  /* black is 16, white 235 of 255; libheif undoes it, except for grey */
    bool profile; /* an ICC profile, which goes before `cicp` */
    struct cicp cicp;
};
struct heif_item heif_item_read(struct bytes data);

struct heif_header {
    double pixels; /* of the largest item; 0 when none says */
    bool deep;     /* more than 8 bits */
};
void heif_header_read(struct bytes data, struct heif_header *ret);
/* What libheif needs a pixel: planes, its own copies and interleaved RGB (measured: 9.5 to 10 at 8
 * bits). */
enum { HEIF_BYTES = 10, HEIF_DEEP_BYTES = 20 };
/* iOS 18 lets a gain map belong to two items, the picture and its tone-mapped form: libheif up to
 * 1.15 refuses the file for it. Nothing of the picture depends on the gain map, so in a copy of the
 * file such references get a type that every reader passes over; *data then is the copy, in `copy`.
 * ERROR_OVERLOADED. */
bool heif_mend(struct bytes *data, struct scratch_buffer *copy, struct error *err) NODISCARD;

/* --- decode --- */

/* Open with the loader of `format`, which must be what image_sniff said, and not JPEG. Pixels are
 * decoded when asked for, top to bottom; `data` must live as long as the image. */
bool image_load(struct bytes data, enum image_format format, VipsImage **ret,
                struct error *err) NODISCARD;

/* Where a picture goes: a window of the upright source (in its pixels) becomes width x height,
 * which is placed on a canvas. */
struct fit_plan {
    double left, top, window_width, window_height;
    int width, height;
    int canvas_width, canvas_height, canvas_left, canvas_top;
};

/* Makes the plan from the size of the upright source. */
struct fit_request {
    bool (*plan)(const void *context, int width, int height, struct fit_plan *ret,
                 struct error *err);
    const void *context;
    uint32_t background; /* 0xRRGGBB */
    const struct image_input *input;
    const struct image_options *options; /* whose operations come next; NULL: none do */
};

/* Whether transparency is to stay. */
static inline bool image_keeps_channels(const struct fit_request *request)
{
    return request->options != NULL && request->options->keep_channels &&
           request->options->format != IMAGE_JPEG;
}

/* A factor that decoders and boxes leave to the final, good resize. */
enum { RESIZE_RESERVE = 2 };

struct geometry;

/* The way of everything but ordinary JPEG: plans *g, and opens the file's picture in memory as it
 * is stored, 8 bit RGB, maybe smaller than the file says; RGBA when transparency stays. */
bool image_decode(struct image_scratch *scratch, const struct image_header *header,
                  const struct fit_request *request, struct geometry *g, VipsImage **ret,
                  struct error *err) NODISCARD;

/* 8 bit RGB in memory, row behind row; in the scratch until its next image. */
struct picture {
    const uint8_t *rgb;
    int width, height;
    bool alpha; /* RGBA, straight: for operations and the encoder only */
    bool grey;  /* R, G and B are equal, and written as one: for the encoder only */
    struct image_stages stages;
};

/* Probe, decode and fit. */
bool image_fit(struct image_scratch *scratch, const struct fit_request *request,
               struct picture *ret, struct error *err) NODISCARD;

/* Probe and decode at full size, apply the operations, and fit what they leave. */
bool image_operate(struct image_scratch *scratch, const struct fit_request *request,
                   struct picture *ret, struct error *err) NODISCARD;
/* The first part of it: the picture then lies in scratch->full[0]. */
bool image_operate_whole(struct image_scratch *scratch, const struct fit_request *request,
                         struct picture *ret, struct error *err) NODISCARD;
/* The last part of it. The result may be `picture` itself. */
bool image_fit_picture(struct image_scratch *scratch, const struct fit_request *request,
                       const struct picture *picture, struct picture *ret,
                       struct error *err) NODISCARD;
/* Into full[0], where it came to lie in the scratch; its memory, and that of what it was turned
 * from, is taken over. */
void image_take_whole(struct image_scratch *scratch, const struct picture *picture);

/* The plan of what the options ask for; `context` is struct image_options. */
bool image_plan_fit(const void *context, int width, int height, struct fit_plan *ret,
                    struct error *err) NODISCARD;

/* --- pixels --- */

static inline size_t pixels_line_size(const VipsImage *image)
{
    return (size_t)image->Xsize * (size_t)image->Bands *
           (size_t)vips_format_sizeof_unsafe(image->BandFmt);
}

/* The bands of an image: colours first, then maybe transparency and others. */
struct channels {
    int colours;
    int alpha; /* its band; -1: none */
};

struct colours;
/* 8 bit sRGB (and maybe alpha as fourth band) by the embedded profile, else by the kind of pixels.
 * `colours` has the transforms that are kept, and no other use while the image is evaluated. */
bool pixels_to_srgb(VipsImage **image, struct channels channels, struct colours *colours,
                    struct error *err) NODISCARD;
/* Colours whose black is 16 and white 235 (of 255; 4096 and 60160 of 65535) to the whole range. */
bool pixels_widen(VipsImage **image, int colours, struct error *err) NODISCARD;
/* Colours that were multiplied with the transparency in the last band, as they were before. */
bool pixels_unpremultiply(VipsImage **image, struct error *err) NODISCARD;
/* Three bands: transparency over the background. */
bool pixels_flatten(VipsImage **image, uint32_t background, struct error *err) NODISCARD;
/* The part of an RGB image in memory that is `part`, at the same place of a canvas of background.
 */
bool pixels_put_on_canvas(VipsImage **image, const struct image_rect *part,
                          const struct image_size *canvas, uint32_t background,
                          struct error *err) NODISCARD;
/* Evaluate into memory, in this thread, polling `cancelled`. */
bool pixels_render(VipsImage **image, const atomic_bool *cancelled, struct error *err) NODISCARD;
VipsArrayDouble *pixels_background(uint32_t background);

/* --- encode --- */

/* Whether the format can be written here. ERROR_BAD_REQUEST. */
bool image_encode_check(const struct image_options *options, struct error *err) NODISCARD;

struct encode_request {
    const struct image_options *options;
    const atomic_bool *cancelled;
};
/* Fills in data, len and release of *ret. */
bool image_encode(struct image_scratch *scratch, const struct encode_request *request,
                  const struct picture *picture, struct image_result *ret,
                  struct error *err) NODISCARD;

/* --- start and end --- */

/* What libvips keeps for each thread. At the end of every thread that used it. */
void image_thread_done(void);
