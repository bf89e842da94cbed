/* Headers of image files made by hand: what a decoder would never write. */
#pragma once

#include "test_image_samples.h"

#include <string.h>

struct builder {
    uint8_t data[8192];
    size_t len;
};

static inline void put(struct builder *b, const void *data, size_t len)
{
    assert_true(len <= sizeof(b->data) - b->len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}
#define PUT(b, literal) put(b, literal, sizeof(literal) - 1)

static inline void put_number(struct builder *b, uint64_t n, int size, bool big_endian)
{
    for (int i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(n >> (8 * (big_endian ? size - 1 - i : i)));
        put(b, &byte, 1);
    }
}

static inline void build_png(struct builder *b, uint32_t width, uint32_t height, int depth,
                             int type)
{
    PUT(b, "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR");
    put_number(b, width, 4, true);
    put_number(b, height, 4, true);
    put_number(b, (uint64_t)depth, 1, true);
    put_number(b, (uint64_t)type, 1, true);
    PUT(b, "\0\0\0");
    PUT(b, "\0\0\0\0");
}

/* A frame with `components` samples unsubsampled, or the first 2x2 (4:2:0), and empty scans. */
static inline void build_jpeg(struct builder *b, int marker, int width, int height, int components,
                              bool subsampled)
{
    PUT(b, "\xff\xd8\xff");
    put_number(b, (uint64_t)marker, 1, true);
    put_number(b, (uint64_t)(8 + 3 * components), 2, true);
    PUT(b, "\x08");
    put_number(b, (uint64_t)height, 2, true);
    put_number(b, (uint64_t)width, 2, true);
    put_number(b, (uint64_t)components, 1, true);
    for (int i = 0; i < components; i++) {
        put_number(b, (uint64_t)(i + 1), 1, true);
        put_number(b, subsampled && i == 0 ? 0x22 : 0x11, 1, true);
        PUT(b, "\0");
    }
}

static inline void build_jpeg_scans(struct builder *b, int components, int scans)
{
    for (int i = 0; i < scans; i++) {
        PUT(b, "\xff\xda");
        put_number(b, (uint64_t)(6 + 2 * components), 2, true);
        put_number(b, (uint64_t)components, 1, true);
        for (int c = 0; c < components; c++)
            put_number(b, (uint64_t)((c + 1) << 8), 2, true);
        PUT(b, "\0\x3f\0");
        PUT(b, "data\xff\0\xff\xd0 more"); /* stuffing and a restart, not markers */
    }
    PUT(b, "\xff\xd9");
}

static inline void build_gif(struct builder *b, int width, int height, int frames)
{
    PUT(b, "GIF89a");
    put_number(b, (uint64_t)width, 2, false);
    put_number(b, (uint64_t)height, 2, false);
    PUT(b, "\x80\0\0\0\0\0\xff\xff\xff");
    for (int i = 0; i < frames; i++) {
        PUT(b, "\x21\xf9\x04\0\0\0\0\0");
        PUT(b, "\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x4c\x01\0");
    }
    PUT(b, ";");
}

static inline void build_webp(struct builder *b, const char *kind, uint64_t fields, int size)
{
    PUT(b, "RIFF\x1a\0\0\0WEBP");
    put(b, kind, 4);
    PUT(b, "\x0a\0\0\0");
    put_number(b, fields, size, false);
    while (b->len < 30)
        PUT(b, "\0");
}

static inline void put_entry(struct builder *b, int tag, uint64_t value, bool big_endian)
{
    put_number(b, (uint64_t)tag, 2, big_endian);
    put_number(b, 4, 2, big_endian);
    put_number(b, 1, 4, big_endian);
    put_number(b, value, 4, big_endian);
}

static inline void build_tiff(struct builder *b, uint32_t width, uint32_t height, int bands,
                              int pages, bool big_endian)
{
    if (big_endian)
        PUT(b, "MM\0*");
    else
        PUT(b, "II*\0");
    put_number(b, 8, 4, big_endian);
    for (int i = 1; i <= pages; i++) {
        put_number(b, 7, 2, big_endian);
        put_entry(b, 256, width, big_endian);
        put_entry(b, 257, height, big_endian);
        put_entry(b, 258, 8, big_endian);
        put_entry(b, 262, bands < 3 ? 1 : 2, big_endian);
        put_entry(b, 273, 8, big_endian);
        put_entry(b, 277, (uint64_t)bands, big_endian);
        put_entry(b, 279, 8, big_endian);
        put_number(b, i == pages ? 0 : b->len + 4, 4, big_endian);
    }
}
