#include "image/ops/operations.h"

/* What a pixel costs, in pixels of a baseline JPEG that is read (5 ns each on the machine where
 * this was measured: medians of single requests, libvips 8.14). */
enum {
    PIXEL_NS = 5,
    READ_WHOLE = 3, /* at full size, and each pixel once more for the fit */
    READ_PROGRESSIVE = 3,
    READ_OTHER = 6, /* PNG 7, WebP 5 */
    WRITE_JPEG = 8, /* resizing included */
    WRITE_AVIF = 48,
    WRITE_OTHER = 24,
    LARGE_BYTES = 16 * 1024 * 1024,
    LARGE = 5000000, /* a baseline JPEG of 4 megapixels to 256 x 256, 30 ms; most take 5 */
};

static int64_t read_cost(const struct image_header *h)
{
    int factor = h->format != IMAGE_JPEG ? READ_OTHER : h->progressive ? READ_PROGRESSIVE : 1;

    return (int64_t)h->width * h->height * factor;
}

static int64_t operations_cost(const struct image_header *h, const struct image_options *o)
{
    if (!operations_asked(o))
        return 0;
    if (image_options_cut_out(o)) /* a model runs, 170 ms */
        return LARGE;
    double cost = operations_cost_ns(o, (struct image_size){h->width, h->height}) / PIXEL_NS +
                  (double)h->width * h->height * READ_WHOLE;
    return cost < LARGE ? (int64_t)cost : LARGE;
}

static int64_t write_cost(struct image_size picture, const struct image_options *o)
{
    double width = o->width, height = o->height;

    if (width == 0 && height == 0)
        width = height = 256;
    else if (width == 0)
        width = height * picture.width / picture.height;
    else if (height == 0)
        height = width * picture.height / picture.width;
    if (o->fit == IMAGE_NONE ||
        (o->fit == IMAGE_INSIDE && width * height > (double)picture.width * picture.height)) {
        width = picture.width;
        height = picture.height;
    }
    int factor = o->format == IMAGE_JPEG   ? WRITE_JPEG
                 : o->format == IMAGE_AVIF ? WRITE_AVIF
                                           : WRITE_OTHER;
    double cost = width * height * factor;
    return cost < LARGE ? (int64_t)cost : LARGE;
}

/* As image_probe does, which refuses what does not fit. */
static int64_t heif_memory(struct bytes data, const struct image_limits *limits)
{
    struct heif_header h;
    double memory;

    heif_header_read(data, &h);
    memory = h.pixels * (h.deep ? HEIF_DEEP_BYTES : HEIF_BYTES);
    return memory > 0 && memory < (double)limits->max_decode_bytes ? (int64_t)memory
                                                                   : limits->max_decode_bytes;
}

bool image_precheck(struct bytes data, const struct image_options *options,
                    const struct image_limits *limits, struct image_cost *ret, struct error *err)
{
    struct image_header h;
    enum image_format format = image_sniff(data);

    if (format == IMAGE_HEIC || format == IMAGE_AVIF) {
        bool whole = options != NULL && operations_asked(options); /* of a size not known yet */

        *ret =
            (struct image_cost){true, whole ? limits->max_decode_bytes : heif_memory(data, limits)};
        return true;
    }
    if (!image_probe(data, limits, &h, err))
        return false;
    int64_t cost = read_cost(&h);
    ret->memory = h.memory;
    if (options != NULL) {
        struct image_size size = {h.width, h.height};

        if (!operations_check(options, &h, limits, err))
            return false;
        cost += operations_cost(&h, options) + write_cost(operations_size(options, size), options);
        ret->memory += operations_memory(options, size);
        if (image_options_cut_out(options) && !operations_apply_any(options))
            ret->memory += cut_out_memory(options, size);
    }
    ret->large = ret->memory >= LARGE_BYTES || cost >= LARGE;
    return true;
}
