#include "catalogue/catalogue_internal.h"

#include <string.h>

static unsigned big(const uint8_t *p, int bytes)
{
    unsigned n = 0;

    for (int i = 0; i < bytes; i++)
        n = n << 8 | p[i];
    return n;
}

static unsigned little(const uint8_t *p, int bytes)
{
    unsigned n = 0;

    for (int i = bytes; i-- > 0;)
        n = n << 8 | p[i];
    return n;
}

static bool is_at(struct bytes head, size_t at, const char *text)
{
    return head.len >= at + strlen(text) && memcmp(head.data + at, text, strlen(text)) == 0;
}

/* ISO 10918-1, B.2.2: the frame header, behind segments with their lengths. */
static bool read_jpeg(struct bytes head, unsigned *width, unsigned *height)
{
    for (size_t at = 2; at + 9 <= head.len && head.data[at] == 0xff;) {
        uint8_t marker = head.data[at + 1];
        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
            marker != 0xcc) {
            *height = big(head.data + at + 5, 2);
            *width = big(head.data + at + 7, 2);
            return true;
        }
        at += 2 + big(head.data + at + 2, 2);
    }
    return false;
}

/* RFC 9649: VP8X, VP8L or VP8. */
static bool read_webp(struct bytes head, unsigned *width, unsigned *height)
{
    const uint8_t *p = head.data;

    if (head.len < 30 || !is_at(head, 8, "WEBP"))
        return false;
    if (is_at(head, 12, "VP8X")) {
        *width = 1 + little(p + 24, 3);
        *height = 1 + little(p + 27, 3);
    } else if (is_at(head, 12, "VP8L")) {
        *width = 1 + (little(p + 21, 4) & 0x3fff);
        *height = 1 + (little(p + 21, 4) >> 14 & 0x3fff);
    } else {
        *width = little(p + 26, 2) & 0x3fff;
        *height = little(p + 28, 2) & 0x3fff;
    }
    return true;
}

/* ISO 23008-12, 6.5.3: ispe, of which the largest is the picture's. */
static bool read_avif(struct bytes head, unsigned *width, unsigned *height)
{
    *width = 0;
    for (size_t at = 4; at + 16 <= head.len; at++)
        if (is_at(head, at, "ispe") && big(head.data + at + 8, 4) > *width) {
            *width = big(head.data + at + 8, 4);
            *height = big(head.data + at + 12, 4);
        }
    return *width > 0;
}

bool dimensions_read(struct bytes head, enum image_format format, int *width, int *height)
{
    unsigned w = 0, h = 0;
    bool ok = false;

    if (format == IMAGE_JPEG)
        ok = read_jpeg(head, &w, &h);
    else if (format == IMAGE_WEBP)
        ok = read_webp(head, &w, &h);
    else if (format == IMAGE_AVIF)
        ok = read_avif(head, &w, &h);
    else if (format == IMAGE_PNG && head.len >= 24 && is_at(head, 12, "IHDR")) {
        w = big(head.data + 16, 4);
        h = big(head.data + 20, 4);
        ok = true;
    }
    if (!ok || w == 0 || h == 0 || w > 65535 || h > 65535)
        return false;
    *width = (int)w;
    *height = (int)h;
    return true;
}
