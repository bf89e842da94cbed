#include "image/read/jpeg.h"

#include <string.h>

enum { SOF0 = 0xc0, DHT = 0xc4, RST0 = 0xd0, SOI = 0xd8, EOI = 0xd9, SOS = 0xda, TEM = 0x01 };

static bool broken(struct error *err, const char *what)
{
    return error_set(err, ERROR_BAD_IMAGE, "the JPEG file %s", what);
}

static int get16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

/* SOF0..SOF15, without DHT, JPG and DAC, which sit between them. */
static bool is_frame(int marker)
{
    return marker >= SOF0 && marker <= 0xcf && marker != DHT && marker != 0xc8 && marker != 0xcc;
}

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* `p` is the segment after its length. */
static bool read_frame(const uint8_t *p, size_t len, int marker, struct jpeg_header *ret,
                       struct error *err)
{
    int max_h = 1, max_v = 1;
    int64_t columns, rows; /* in units of the largest sampling factors' blocks */

    if (ret->components != 0)
        return broken(err, "has two frames");
    /* Sequential and progressive, Huffman and arithmetic; not lossless, not hierarchical. */
    if (marker > 0xc2 && marker != 0xc9 && marker != 0xca)
        return broken(err, "uses a rare variant of JPEG (lossless or hierarchical)");
    if (len < 6 || p[0] != 8)
        return broken(err, "does not have 8 bits a sample");
    ret->height = get16(p + 1);
    ret->width = get16(p + 3);
    ret->components = p[5];
    ret->progressive = marker == 0xc2 || marker == 0xca;
    ret->coefficients = ret->progressive;
    if (ret->width == 0 || ret->height == 0 || len < 6 + 3 * (size_t)ret->components)
        return broken(err, "has a broken frame header");
    if (ret->components != 1 && ret->components != 3 && ret->components != 4)
        return broken(err, "has neither 1 (grey), 3 (colour) nor 4 (CMYK) components");

    for (int i = 0; i < ret->components; i++) {
        int h = p[7 + 3 * i] >> 4, v = p[7 + 3 * i] & 15;

        if (h < 1 || h > 4 || v < 1 || v > 4)
            return broken(err, "has a broken frame header");
        max_h = h > max_h ? h : max_h;
        max_v = v > max_v ? v : max_v;
    }
    columns = round_up(ret->width, 8 * max_h) / max_h;
    rows = round_up(ret->height, 8 * max_v) / max_v;
    for (int i = 0; i < ret->components; i++)
        ret->samples += columns * (p[7 + 3 * i] >> 4) * rows * (p[7 + 3 * i] & 15);
    return true;
}

/* The next marker, behind which w->pos is left; -1 at the end of the data. Stuffed zeros and
 * restarts, which belong to the compressed data, are passed over. */
static int next_marker(struct jpeg_walk *w)
{
    static const uint8_t ones[] = {0xff, 0, 0xff, 0};
    const uint8_t *p, *end = w->data.data + w->data.len;

    while ((p = memchr(w->data.data + w->pos, 0xff, w->data.len - w->pos)) != NULL) {
        while (p < end && *p == 0xff)
            p++;
        if (p == end)
            break;
        int marker = *p++;
        w->pos = (size_t)(p - w->data.data);
        if (marker != 0 && marker != TEM && (marker < RST0 || marker >= SOI))
            return marker;
        if (marker == 0 && (size_t)(end - p) >= sizeof(ones) && memcmp(p, ones, sizeof(ones)) == 0)
            w->ones = true;
    }
    return -1;
}

int jpeg_walk_next(struct jpeg_walk *w, struct bytes *ret)
{
    int marker = next_marker(w);
    size_t len;

    *ret = bytes_of(NULL, 0);
    if (marker < 0 || marker == EOI || marker == SOI)
        return marker;
    if (w->data.len - w->pos < 2)
        return -1;
    len = (size_t)get16(w->data.data + w->pos);
    if (len < 2) /* libjpeg skips nothing then */
        len = 2;
    if (len > w->data.len - w->pos)
        return -1;
    *ret = bytes_of(w->data.data + w->pos + 2, len - 2);
    w->pos += len;
    return marker;
}

/* Without an end marker nothing tells whether the last scan is whole, or whether more scans should
 * follow, and libjpeg's read-ahead stumbles over its absence anyway: such a file is refused. */
bool jpeg_header_read(struct bytes data, struct jpeg_header *ret, struct error *err)
{
    struct jpeg_walk walk = {.data = data, .pos = 2};
    int scans = 0, marker;
    struct bytes segment;

    *ret = (struct jpeg_header){0};
    while ((marker = jpeg_walk_next(&walk, &segment)) != EOI) {
        if (marker < 0)
            return broken(err, "is truncated");
        if (marker == SOI)
            return broken(err, "has a broken marker");
        if (is_frame(marker) && !read_frame(segment.data, segment.len, marker, ret, err))
            return false;
        if (marker == SOS) {
            if (ret->components == 0 || segment.len < 1)
                return broken(err, "has a broken scan header");
            ret->coefficients |= segment.data[0] < ret->components;
            if (++scans > IMAGE_JPEG_SCANS_MAX)
                return error_set(err, ERROR_BAD_IMAGE, "the JPEG file has more than %d scans",
                                 IMAGE_JPEG_SCANS_MAX);
        }
    }
    ret->ones = walk.ones;
    return scans > 0 || broken(err, "has no image");
}
