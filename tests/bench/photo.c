#include "photo.h"

#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LEN = 32, PNG_HEADER_LEN = 33 };

static const char png_keyword[] = "bench"; /* its NUL is the separator */

static uint32_t get32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32le(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put32be(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* CRC-32 of PNG (ISO 3309), bit by bit: it is over 42 bytes only. */
static uint32_t crc32_of(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
    }
    return ~crc;
}

/* After the first segment, which in a JFIF file must come first. */
static bool plan_jpeg(struct photo *p)
{
    if (p->len < 6 || p->data[0] != 0xff || p->data[1] != 0xd8 || p->data[2] != 0xff)
        return false;
    p->type = "image/jpeg";
    p->split = 4 + (size_t)(p->data[4] << 8 | p->data[5]);
    p->mark_len = 4 + TEXT_LEN;
    return p->split < p->len;
}

static bool plan_png(struct photo *p)
{
    if (p->len <= PNG_HEADER_LEN || memcmp(p->data, "\x89PNG\r\n\x1a\n", 8) != 0)
        return false;
    p->type = "image/png";
    p->split = PNG_HEADER_LEN;
    p->mark_len = 12 + sizeof(png_keyword) + TEXT_LEN;
    return true;
}

/* At the end; the file's size stands in its header. */
static bool plan_webp(struct photo *p)
{
    if (p->len < 20 || memcmp(p->data, "RIFF", 4) != 0 || memcmp(p->data + 8, "WEBP", 4) != 0)
        return false;
    p->type = "image/webp";
    p->split = p->len;
    p->mark_len = 8 + TEXT_LEN;
    put32le(p->data + 4, get32le(p->data + 4) + (uint32_t)p->mark_len);
    return true;
}

bool photo_read(struct photo *photo, const char *path)
{
    *photo = (struct photo){0};
    photo->data = file_read(path, &photo->len);
    if (photo->data == NULL)
        return false;
    if (plan_jpeg(photo) || plan_png(photo) || plan_webp(photo))
        return true;
    fprintf(stderr, "%s: no JPEG, PNG or WebP\n", path);
    photo_done(photo);
    return false;
}

void photo_done(struct photo *photo)
{
    free(photo->data);
    *photo = (struct photo){0};
}

void photo_mark(const struct photo *photo, uint64_t run, uint64_t counter,
                uint8_t out[PHOTO_MARK_MAX])
{
    char text[TEXT_LEN + 1];

    snprintf(text, sizeof(text), "%016llx%016llx", (unsigned long long)run,
             (unsigned long long)counter);
    if (photo->type[6] == 'j') {
        memcpy(out, "\xff\xfe\0", 3);
        out[3] = 2 + TEXT_LEN;
        memcpy(out + 4, text, TEXT_LEN);
    } else if (photo->type[6] == 'p') {
        put32be(out, sizeof(png_keyword) + TEXT_LEN);
        memcpy(out + 4, "tEXt", 4);
        memcpy(out + 8, png_keyword, sizeof(png_keyword));
        memcpy(out + 8 + sizeof(png_keyword), text, TEXT_LEN);
        put32be(out + photo->mark_len - 4, crc32_of(out + 4, photo->mark_len - 8));
    } else {
        memcpy(out, "bnch", 4);
        put32le(out + 4, TEXT_LEN);
        memcpy(out + 8, text, TEXT_LEN);
    }
}
