/* Images: what may come in, what goes out. The only folder that includes libvips or a codec.
 * Everything here is a pure function of its inputs: no I/O, no shared state that callers see.
 * Call image_start once per process before any other thread runs. Each thread that does the work
 * has a struct image_scratch of its own. */
#pragma once

#include "base/bytes.h"

#include <stdatomic.h>

enum image_format {
    IMAGE_UNKNOWN,
    IMAGE_JPEG,
    IMAGE_PNG,
    IMAGE_WEBP,
    IMAGE_GIF,  /* in only; the first frame */
    IMAGE_TIFF, /* in only; the first page */
    IMAGE_HEIC, /* in only */
    IMAGE_AVIF,
};

enum image_fit { IMAGE_COVER, IMAGE_CONTAIN, IMAGE_FILL, IMAGE_INSIDE, IMAGE_NONE };

enum {
    IMAGE_OUTPUT_PIXELS_MAX = 16000000,
    IMAGE_OUTPUT_PIXELS_MAX_AVIF = 4000000,
    IMAGE_DIMENSION_MAX = 65535, /* of an option; WebP output is further limited to 16383 */
    IMAGE_JPEG_SCANS_MAX = 100,
    IMAGE_OPERATIONS_MAX = 8, /* of OPERATIONS in ops/operations.h */
};

/* What one request may cost; checked on the header, before decoding. */
struct image_limits {
    int64_t max_pixels; /* width x height; of many pages or frames the first is decoded */
    /* The estimate, in bytes a pixel: JPEG two a component sample when the decoder keeps all
     * coefficients (progressive, or several scans), else only rows; CMYK 7 more; PNG as stored
     * (palettes: 4; a clear colour: a channel more); TIFF as stored, plus a strip or tile; GIF and
     * WebP 8 (GIF 11 with a first frame smaller than its canvas); HEIC and AVIF 10 (20 over 8
     * bits). */
    int64_t max_decode_bytes;
};

struct image_options {
    int width; /* 0 with height 0: 256x256; 0 alone: from the aspect ratio, at least 1; with
                  `inside` only the given dimension then is a bound */
    int height;
    enum image_fit fit;
    enum image_format format; /* IMAGE_JPEG, _PNG, _WEBP or _AVIF */
    int quality;              /* 1..100, the encoder's own number; 0: the format's default */
    uint32_t background;      /* 0xRRGGBB, under transparency and padding */
    /* Of each of OPERATIONS (ops/operations.h), in its order, the value; 0: not asked for.
     * Those asked for end the canonical text: "median=5\nmean=3\nrotate=90\n". */
    int operations[IMAGE_OPERATIONS_MAX];
    /* Transparency stays (not in JPEG), and in PNG grey stays grey; with IMAGE_NONE and without
     * remove_background. No option of the HTTP API, and in no canonical text. */
    bool keep_channels;
};

/* width=0, height=0, cover, JPEG, quality=0, background ffffff, no operations. */
struct image_options image_options_default(void);
/* The quality, with the default (JPEG 94, others 90) filled in. */
int image_options_quality(const struct image_options *options);

/* Set one option from its text; names are the HTTP API's. ERROR_BAD_REQUEST names the option and
 * what it may be; ERROR_NOT_FOUND for an unknown name. */
bool image_options_set(struct image_options *options, const char *name, const char *value,
                       struct error *err) NODISCARD;
/* Checks that need all options together (output pixels; format limits; a size with IMAGE_NONE).
 * ERROR_BAD_REQUEST. */
bool image_options_check(const struct image_options *options, struct error *err) NODISCARD;

enum { IMAGE_OPTIONS_TEXT_MAX = 128 + 48 * IMAGE_OPERATIONS_MAX };
/* The canonical text that goes into the content id, all options with defaults filled in:
 * "darkroom-5\nwidth=256\nheight=256\nfit=cover\nformat=jpeg\nquality=94\nbackground=ffffff\n". */
void image_options_text(const struct image_options *options, char out[IMAGE_OPTIONS_TEXT_MAX]);

const char *image_format_name(enum image_format format);         /* "jpeg" */
const char *image_format_extension(enum image_format format);    /* "jpg" */
const char *image_format_content_type(enum image_format format); /* "image/jpeg" */
/* IMAGE_UNKNOWN unless `extension` is that of an output format. */
enum image_format image_format_of_extension(const char *extension);

/* The format by magic bytes alone. */
enum image_format image_sniff(struct bytes data);

struct image_rect {
    int left, top, width, height;
};

struct image_size {
    int width, height;
};

struct image_header {
    enum image_format format;
    int width, height; /* as stored, before orientation */
    int pages;
    int bands;
    bool grey;          /* one band, of brightness */
    int64_t memory;     /* the estimate, bytes */
    bool progressive;   /* JPEG */
    bool ones;          /* JPEG: so many in a row that there may be a code that does not exist */
    int colours, alpha; /* TIFF: how many bands are colours; which is transparency, -1: none */
    struct image_rect frame; /* GIF: where on the canvas the first frame is */
};

/* Read the header and check it against the limits, decoding nothing.
 * ERROR_UNSUPPORTED_MEDIA (415: empty, unknown magic, a format this build cannot read),
 * ERROR_TOO_LARGE (413: pixels or decode memory), ERROR_BAD_IMAGE (422: a broken header, too many
 * JPEG scans, a JPEG without its end marker). */
bool image_probe(struct bytes data, const struct image_limits *limits, struct image_header *ret,
                 struct error *err) NODISCARD;

/* What an image costs, by estimates. */
struct image_cost {
    bool large;     /* several times the time of most uploads, or 16 MiB and more */
    int64_t memory; /* bytes, as image_limits.max_decode_bytes counts them */
};

/* What image_probe would refuse as far as it can be told without a codec library: cheap, and safe
 * on a thread with a small stack. Limits on HEIF are left for the thread that decodes.
 * *ret: of image_transform with these options (NULL: image_to_pixels); HEIF is always large. */
bool image_precheck(struct bytes data, const struct image_options *options,
                    const struct image_limits *limits, struct image_cost *ret,
                    struct error *err) NODISCARD;

/* What a thread keeps from image to image: codec handles, tables, scratch memory (what an unusually
 * large image needed is given back after it). No image sees anything of another. */
struct image_scratch;
struct image_scratch *image_scratch_new(struct error *err) NODISCARD;
/* On the thread that used it, at its end; NULL is fine, and ends the thread's use of this module
 * all the same. */
void image_scratch_free(struct image_scratch *scratch);

struct image_input {
    struct bytes data;
    const struct image_limits *limits;
    const atomic_bool *cancelled; /* may be NULL; once true, calls end soon with ERROR_DEADLINE */
    int threads; /* that operations may use, the caller's included; 0: only that. No byte depends
                    on it */
};

struct image_stages { /* seconds */
    double decode, transform, encode;
};

struct image_result {
    uint8_t *data; /* heap, freed by image_result_done */
    size_t len;
    void (*release)(void *data);
    int width, height;
    struct image_stages stages;
};

/* Probe, decode whole, orient (EXIF 1..8), to sRGB 8 bit, flatten onto the background, apply the
 * operations, fit, encode without any metadata. Errors as image_probe, and ERROR_BAD_IMAGE for data
 * that does not decode to its end. On failure *ret is untouched. */
bool image_transform(struct image_scratch *scratch, const struct image_input *input,
                     const struct image_options *options, struct image_result *ret,
                     struct error *err) NODISCARD;
void image_result_done(struct image_result *result);

/* --- bare pixels --- */

/* 8 bit, interleaved, row behind row, 1 to 4 bytes a pixel, at most IMAGE_DIMENSION_MAX a side. */
struct image_pixels {
    uint8_t *data;
    struct image_size size;
    int bands;
};

/* The one operation asked for, any but remove_background, on such pixels; `input` says how (its
 * data and limits are not looked at). ret->data is the caller's, from malloc. No format is read, so
 * no sandbox is needed. ERROR_DEADLINE, ERROR_OVERLOADED. */
bool image_operate_pixels(const struct image_input *input, const struct image_pixels *pixels,
                          const struct image_options *options, struct image_pixels *ret,
                          struct error *err) NODISCARD;

/* --- remove_background: image_transform in two steps, between which the caller finds the mask ---
 */

/* Whether the two steps are to be taken. */
bool image_options_cut_out(const struct image_options *options);

/* Everything up to the operations before remove_background. The picture waits in the scratch for
 * image_cut_finish, which must be the next call. `rgb`: 3 * size.width * size.height bytes of the
 * caller's, rows from the top: the picture stretched to that size, to find the mask in. Errors as
 * image_transform, whose `encode` is still 0 in *ret. */
bool image_cut_begin(struct image_scratch *scratch, const struct image_input *input,
                     const struct image_options *options, struct image_size size, uint8_t *rgb,
                     struct image_stages *ret, struct error *err) NODISCARD;

/* A mask of any size, one byte a pixel, 0 for background: the picture behind it, fitted and
 * encoded, with alpha (colours straight; black where alpha is 0), in JPEG over the background.
 * ERROR_UNAVAILABLE: no picture waits. Stages are those of this step alone. */
struct image_mask {
    const uint8_t *alpha;
    struct image_size size;
};
bool image_cut_finish(struct image_scratch *scratch, const struct image_mask *mask,
                      const struct image_options *options, const atomic_bool *cancelled,
                      struct image_result *ret, struct error *err) NODISCARD;

/* How a classifier wants its input. */
struct image_tensor_spec {
    int width, height;     /* of the tensor */
    int short_side;        /* a larger image, and one that does not cover width x height, is scaled
                              so that its short side is this, then centre cropped, like a stored
                              one; any between is only cropped */
    bool nchw;             /* planes (NCHW) or interleaved (NHWC) */
    float mean[3], std[3]; /* out = (rgb - mean) / std, R first */
};

/* 3 * width * height */
size_t image_pixels_bytes(const struct image_tensor_spec *spec);
/* Decode to the tensor's pixels: image_pixels_bytes of the caller's, rows from the top, R first.
 * Transparency is flattened onto white. Errors as image_transform. */
bool image_to_pixels(struct image_scratch *scratch, const struct image_input *input,
                     const struct image_tensor_spec *spec, uint8_t *rgb, struct image_stages *ret,
                     struct error *err) NODISCARD;
/* The tensor of them: as many floats, the caller's. */
void image_tensor_fill(const uint8_t *rgb, const struct image_tensor_spec *spec, float *values);

bool image_start(struct error *err) NODISCARD;
/* Load now what is otherwise loaded when first needed (libvips and its codecs); what is missing is
 * told then. Evaluates nothing, so that no thread is left behind: for a process that forks. */
void image_preload(void);
void image_stop(void);
