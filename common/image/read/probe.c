#include "image/private.h"

#include <string.h>

enum {
    BANDS_MAX = 16,
    JPEG_ROWS = 64, /* that libjpeg has in its buffers at a time; 10 to 50 were counted */
};

/* A header, and what decoding costs besides the picture itself (bytes, and bytes a pixel). */
struct probe {
    struct image_header header;
    int64_t extra;
    int64_t bytes_per_pixel;
};

static bool broken(struct error *err, enum image_format format)
{
    return error_set(err, ERROR_BAD_IMAGE, "the %s file has a broken header",
                     image_format_name(format));
}

/* The product of numbers that are not negative, or INT64_MAX. */
static int64_t multiply(int64_t a, int64_t b)
{
    int64_t product;

    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

static int get16le(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

static int get24le(const uint8_t *p)
{
    return p[0] | p[1] << 8 | p[2] << 16;
}

static uint32_t get32le(const uint8_t *p)
{
    return (uint32_t)get24le(p) | (uint32_t)p[3] << 24;
}

static uint32_t get32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The coefficients (two bytes each) when the decoder keeps them all, and rows; CMYK is decoded
 * whole before it becomes RGB. */
static bool probe_jpeg(struct bytes data, struct probe *p, struct error *err)
{
    struct jpeg_header jpeg;

    if (!jpeg_header_read(data, &jpeg, err))
        return false;
    p->header.width = jpeg.width;
    p->header.height = jpeg.height;
    p->header.bands = jpeg.components;
    p->header.grey = jpeg.components == 1;
    p->header.progressive = jpeg.progressive;
    p->header.ones = jpeg.ones;
    p->bytes_per_pixel = jpeg.components == 4 ? 7 : 0;
    p->extra = (jpeg.coefficients ? 2 * jpeg.samples : 0) +
               (int64_t)JPEG_ROWS * jpeg.width * jpeg.components;
    return true;
}

struct bytes png_chunk(struct bytes data, const char *type)
{
    for (size_t at = 8; at + 12 <= data.len;) {
        const uint8_t *chunk = data.data + at;
        size_t len = get32be(chunk);

        if (len > data.len - at - 12 || memcmp(chunk + 4, "IDAT", 4) == 0)
            break;
        if (memcmp(chunk + 4, type, 4) == 0)
            return bytes_of(chunk + 8, len);
        at += len + 12;
    }
    return bytes_of(NULL, 0);
}

/* Palette images become RGBA at most. In others one colour may be clear: that is a channel then.
 * Animated PNG: the default image is an ordinary PNG. */
static bool probe_png(struct bytes data, struct probe *p, struct error *err)
{
    enum { GREY = 0, RGB = 2 };
    static const int bands_of_type[] = {1, 0, 3, 4, 2, 0, 4};
    const uint8_t *d = data.data;
    uint32_t width, height;

    if (data.len < 33 || memcmp(d + 12, "IHDR", 4) != 0)
        return broken(err, IMAGE_PNG);
    width = get32be(d + 16);
    height = get32be(d + 20);
    if (width == 0 || width > INT32_MAX || height == 0 || height > INT32_MAX || d[25] > 6 ||
        bands_of_type[d[25]] == 0)
        return broken(err, IMAGE_PNG);
    p->header.width = (int)width;
    p->header.height = (int)height;
    p->header.bands = bands_of_type[d[25]];
    if ((d[25] == GREY || d[25] == RGB) && png_chunk(data, "tRNS").len > 0)
        p->header.bands++;
    p->header.grey = p->header.bands == 1;
    p->bytes_per_pixel = p->header.bands * (d[24] > 8 ? 2 : 1);
    return true;
}

/* Position behind a chain of GIF sub-blocks, or the end of the data. */
static size_t gif_skip_blocks(struct bytes data, size_t pos)
{
    while (pos < data.len && data.data[pos] != 0)
        pos += 1 + (size_t)data.data[pos];
    return pos < data.len ? pos + 1 : data.len;
}

/* Bytes of a colour table by its flags. */
static size_t gif_table(uint8_t flags)
{
    return (flags & 0x80) != 0 ? (size_t)3 << ((flags & 7) + 1) : 0;
}

/* The decoder keeps an RGBA canvas and copies it out; the first frame may enlarge the screen. */
static bool probe_gif(struct bytes data, struct probe *p, struct error *err)
{
    const uint8_t *d = data.data;
    int width, height;
    size_t pos;

    if (data.len < 13)
        return broken(err, IMAGE_GIF);
    width = get16le(d + 6);
    height = get16le(d + 8);
    pos = 13 + gif_table(d[10]);
    while (pos < data.len && d[pos] != 0x3b) {
        if (d[pos] == 0x21) { /* extension: label, blocks */
            pos = gif_skip_blocks(data, pos + 2);
        } else if (d[pos] == 0x2c && data.len - pos > 10) { /* a frame */
            if (p->header.pages++ == 0)
                p->header.frame = (struct image_rect){get16le(d + pos + 1), get16le(d + pos + 3),
                                                      get16le(d + pos + 5), get16le(d + pos + 7)};
            pos = gif_skip_blocks(data, pos + 10 + gif_table(d[pos + 9]) + 1);
        } else {
            break;
        }
    }
    if (p->header.frame.width == 0 || p->header.frame.height == 0)
        return broken(err, IMAGE_GIF);
    p->header.width = VIPS_MAX(width, p->header.frame.left + p->header.frame.width);
    p->header.height = VIPS_MAX(height, p->header.frame.top + p->header.frame.height);
    p->header.bands = 4;
    /* a smaller frame is copied onto its canvas */
    p->bytes_per_pixel =
        p->header.frame.width < p->header.width || p->header.frame.height < p->header.height ? 11
                                                                                             : 8;
    return true;
}

/* The size by the first chunk. */
static bool webp_size(const uint8_t *chunk, struct image_header *h)
{
    const uint8_t *d = chunk + 8;

    if (memcmp(chunk, "VP8X", 4) == 0) {
        h->width = get24le(d + 4) + 1;
        h->height = get24le(d + 7) + 1;
        h->bands = (d[0] & 0x10) != 0 ? 4 : 3;
    } else if (memcmp(chunk, "VP8L", 4) == 0 && d[0] == 0x2f) {
        h->width = (int)(get32le(d + 1) & 0x3fff) + 1;
        h->height = (int)(get32le(d + 1) >> 14 & 0x3fff) + 1;
        h->bands = (d[4] & 0x10) != 0 ? 4 : 3;
    } else if (memcmp(chunk, "VP8 ", 4) == 0 && memcmp(d + 3, "\x9d\x01\x2a", 3) == 0) {
        h->width = get16le(d + 6) & 0x3fff;
        h->height = get16le(d + 8) & 0x3fff;
        h->bands = 3;
    }
    return h->width > 0 && h->height > 0;
}

/* The decoder keeps a whole frame as ARGB and writes it out whole. */
static bool probe_webp(struct bytes data, struct probe *p, struct error *err)
{
    uint32_t chunk_size;

    if (data.len < 30 || !webp_size(data.data + 12, &p->header))
        return broken(err, IMAGE_WEBP);
    for (size_t pos = 12; pos + 8 <= data.len; pos += 8 + (size_t)chunk_size) {
        chunk_size = get32le(data.data + pos + 4);
        chunk_size += chunk_size & 1;
        p->header.pages += memcmp(data.data + pos, "ANMF", 4) == 0;
        if (chunk_size > data.len - pos - 8)
            break;
    }
    if (p->header.pages == 0)
        p->header.pages = 1;
    p->bytes_per_pixel = 8;
    return true;
}

/* Samples as stored, and the same again for a strip or tile. */
static bool probe_tiff(struct bytes data, struct probe *p, struct error *err)
{
    struct tiff_header tiff;
    int sample;

    if (!tiff_header_read(data, &tiff, err))
        return false;
    sample = tiff.bits > 8 ? (tiff.bits + 7) / 8 : 1;
    p->header.width = tiff.width;
    p->header.height = tiff.height;
    p->header.pages = tiff.pages;
    p->header.bands = tiff.bands;
    p->header.grey = tiff.grey;
    p->header.colours = tiff.colours;
    p->header.alpha = tiff.alpha;
    p->bytes_per_pixel = (int64_t)tiff.bands * sample;
    p->extra = multiply(tiff.chunk, p->bytes_per_pixel);
    if (tiff.pages > 1 && p->extra < INT64_MAX / 2) /* the first page is copied */
        p->extra += (int64_t)data.len;
    return true;
}

/* libheif reads the boxes itself, which have its own limits; nothing is decoded. */
static bool probe_heif(struct bytes data, struct probe *p, struct error *err)
{
    CLEANUP_IMAGE VipsImage *image = NULL;

    if (!image_load(data, p->header.format, &image, err))
        return false;
    p->header.width = image->Xsize;
    p->header.height = image->Ysize;
    p->header.bands = image->Bands;
    p->header.pages = vips_image_get_n_pages(image);
    p->bytes_per_pixel = image->BandFmt == VIPS_FORMAT_UCHAR ? HEIF_BYTES : HEIF_DEEP_BYTES;
    return true;
}

static bool probe_format(struct bytes data, struct probe *p, struct error *err)
{
    switch (p->header.format) {
    case IMAGE_JPEG:
        p->header.pages = 1;
        return probe_jpeg(data, p, err);
    case IMAGE_PNG:
        p->header.pages = 1;
        return probe_png(data, p, err);
    case IMAGE_GIF:
        return probe_gif(data, p, err);
    case IMAGE_WEBP:
        return probe_webp(data, p, err);
    case IMAGE_TIFF:
        return probe_tiff(data, p, err);
    case IMAGE_HEIC:
    case IMAGE_AVIF:
        if (!image_can_decode(p->header.format))
            return error_set(err, ERROR_UNSUPPORTED_MEDIA, "this server cannot read %s",
                             image_format_name(p->header.format));
        return probe_heif(data, p, err);
    case IMAGE_UNKNOWN:
        break;
    }
    return error_set(err, ERROR_UNSUPPORTED_MEDIA,
                     data.len == 0 ? "there is no image (0 bytes)"
                                   : "not a JPEG, PNG, WebP, GIF, TIFF, HEIC or AVIF image");
}

bool image_probe(struct bytes data, const struct image_limits *limits, struct image_header *ret,
                 struct error *err)
{
    struct probe p = {.header.format = image_sniff(data)};
    const struct image_header *h = &p.header;
    int64_t pixels, memory;

    if (!probe_format(data, &p, err))
        return false;
    pixels = multiply(h->width, h->height);
    if (pixels > limits->max_pixels)
        return error_set(err, ERROR_TOO_LARGE, "the image has %d x %d pixels, more than %lld",
                         h->width, h->height, (long long)limits->max_pixels);
    if (h->bands < 1 || h->bands > BANDS_MAX)
        return error_set(err, ERROR_BAD_IMAGE, "the image has %d channels, not 1 to %d", h->bands,
                         BANDS_MAX);
    memory = multiply(pixels, p.bytes_per_pixel);
    if (p.extra > limits->max_decode_bytes || memory > limits->max_decode_bytes - p.extra)
        return error_set(err, ERROR_TOO_LARGE,
                         "decoding the image would take more than %lld bytes of memory",
                         (long long)limits->max_decode_bytes);
    p.header.memory = memory + p.extra;
    *ret = p.header;
    return true;
}
