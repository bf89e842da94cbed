#include "image/image.h"

#include <string.h>

static const struct {
    const char *name, *extension, *content_type;
    bool output;
} formats[] = {
    [IMAGE_UNKNOWN] = {"unknown", "bin", "application/octet-stream", false},
    [IMAGE_JPEG] = {"jpeg", "jpg", "image/jpeg", true},
    [IMAGE_PNG] = {"png", "png", "image/png", true},
    [IMAGE_WEBP] = {"webp", "webp", "image/webp", true},
    [IMAGE_GIF] = {"gif", "gif", "image/gif", false},
    [IMAGE_TIFF] = {"tiff", "tif", "image/tiff", false},
    [IMAGE_HEIC] = {"heic", "heic", "image/heic", false},
    [IMAGE_AVIF] = {"avif", "avif", "image/avif", true},
};

const char *image_format_name(enum image_format format)
{
    return formats[format].name;
}

const char *image_format_extension(enum image_format format)
{
    return formats[format].extension;
}

const char *image_format_content_type(enum image_format format)
{
    return formats[format].content_type;
}

enum image_format image_format_of_extension(const char *extension)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
        if (formats[i].output && strcmp(formats[i].extension, extension) == 0)
            return (enum image_format)i;
    }
    return IMAGE_UNKNOWN;
}

/* ISO base media files name their kind in the `ftyp` box: a major brand, a version, more brands.
 * "mif1" and "msf1" alone only say HEIF; its usual codec is HEVC. */
static enum image_format sniff_brands(struct bytes data)
{
    static const char heic[][5] = {"heic", "heix", "heim", "heis", "hevc",
                                   "hevx", "hevm", "hevs", "mif1", "msf1"};
    enum image_format found = IMAGE_UNKNOWN;
    size_t size;

    if (data.len < 16 || memcmp(data.data + 4, "ftyp", 4) != 0)
        return IMAGE_UNKNOWN;
    size = (size_t)data.data[0] << 24 | (size_t)data.data[1] << 16 | (size_t)data.data[2] << 8 |
           data.data[3];
    if (size > data.len)
        size = data.len;
    for (size_t at = 8; at + 4 <= size; at += 4) {
        const uint8_t *brand = data.data + at;

        if (at == 12) /* the version */
            continue;
        if (memcmp(brand, "avif", 4) == 0 || memcmp(brand, "avis", 4) == 0)
            return IMAGE_AVIF;
        for (size_t i = 0; i < ARRAY_SIZE(heic); i++) {
            if (memcmp(brand, heic[i], 4) == 0)
                found = IMAGE_HEIC;
        }
    }
    return found;
}

enum image_format image_sniff(struct bytes data)
{
    static const struct {
        const char *magic;
        size_t len;
        enum image_format format;
    } magics[] = {
        {"\xff\xd8\xff", 3, IMAGE_JPEG},    {"\x89PNG\r\n\x1a\n", 8, IMAGE_PNG},
        {"GIF87a", 6, IMAGE_GIF},           {"GIF89a", 6, IMAGE_GIF},
        {"II*\0", 4, IMAGE_TIFF},           {"MM\0*", 4, IMAGE_TIFF},
        {"II+\0\x08\0\0\0", 8, IMAGE_TIFF}, {"MM\0+\0\x08\0\0", 8, IMAGE_TIFF},
    };

    for (size_t i = 0; i < ARRAY_SIZE(magics); i++) {
        if (bytes_starts_with(data, magics[i].magic, magics[i].len))
            return magics[i].format;
    }
    if (data.len >= 12 && memcmp(data.data, "RIFF", 4) == 0 &&
        memcmp(data.data + 8, "WEBP", 4) == 0)
        return IMAGE_WEBP;
    return sniff_brands(data);
}
