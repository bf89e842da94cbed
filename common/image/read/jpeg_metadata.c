/* EXIF orientation and ICC profile, from the segments before the first scan. As libjpeg and libvips
 * find them: the first EXIF block counts, and the pieces of a profile in the order of their
 * numbers up to the first that is missing. */
#include "image/read/jpeg.h"

#include <string.h>

enum { APP1 = 0xe1, APP2 = 0xe2, SOS = 0xda, PIECES_MAX = 255 };

static uint32_t get(const uint8_t *p, int size, bool big_endian)
{
    uint32_t n = 0;

    for (int i = 0; i < size; i++)
        n |= (uint32_t)p[i] << (8 * (big_endian ? size - 1 - i : i));
    return n;
}

/* EXIF 2.3, 4.6: a TIFF header, and a directory of entries of 12 bytes (tag, type, count, value).
 * Orientation is tag 0x112, in the first directory. */
int exif_orientation(struct bytes tiff)
{
    enum { TAG = 0x112, SHORT = 3, LONG = 4, ENTRY = 12 };
    bool big = tiff.len >= 8 && tiff.data[0] == 'M';
    uint32_t at, count, value;

    if (tiff.len < 8 || memcmp(tiff.data, big ? "MM\0*" : "II*\0", 4) != 0)
        return 1;
    at = get(tiff.data + 4, 4, big);
    if (at > tiff.len - 2)
        return 1;
    count = get(tiff.data + at, 2, big);
    for (size_t pos = at + 2; count > 0 && pos + ENTRY <= tiff.len; count--, pos += ENTRY) {
        const uint8_t *p = tiff.data + pos;
        uint32_t type = get(p + 2, 2, big);

        if (get(p, 2, big) != TAG)
            continue;
        if ((type != SHORT && type != LONG) || get(p + 4, 4, big) == 0)
            return 1;
        value = get(p + 8, type == SHORT ? 2 : 4, big);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

static bool join(const struct bytes *pieces, struct scratch_buffer *scratch, struct bytes *ret,
                 struct error *err)
{
    size_t len = 0, count = 0;

    while (count < PIECES_MAX && pieces[count].len > 0)
        len += pieces[count++].len;
    *ret = pieces[0];
    if (count < 2)
        return true;
    if (!scratch_buffer_need(scratch, len, err))
        return false;
    len = 0;
    for (size_t i = 0; i < count; len += pieces[i++].len)
        memcpy(scratch->data + len, pieces[i].data, pieces[i].len);
    *ret = bytes_of(scratch->data, len);
    return true;
}

bool jpeg_metadata_read(struct bytes data, struct scratch_buffer *scratch,
                        struct jpeg_metadata *ret, struct error *err)
{
    static const char exif[] = "Exif\0", icc[] = "ICC_PROFILE"; /* with their NULs */
    struct bytes pieces[PIECES_MAX] = {{0}}, segment;
    bool exif_seen = false;
    struct jpeg_walk walk = {.data = data, .pos = 2};
    int marker;

    ret->orientation = 1;
    while ((marker = jpeg_walk_next(&walk, &segment)) > 0 && marker != SOS) {
        if (marker == APP1 && !exif_seen && bytes_starts_with(segment, exif, sizeof(exif))) {
            exif_seen = true;
            ret->orientation =
                exif_orientation(bytes_of(segment.data + sizeof(exif), segment.len - sizeof(exif)));
        }
        if (marker == APP2 && segment.len > sizeof(icc) + 2 &&
            bytes_starts_with(segment, icc, sizeof(icc)) && segment.data[sizeof(icc)] > 0)
            pieces[segment.data[sizeof(icc)] - 1] =
                bytes_of(segment.data + sizeof(icc) + 2, segment.len - sizeof(icc) - 2);
    }
    return join(pieces, scratch, &ret->profile, err);
}
