#include "image/private.h"

#include <string.h>

enum { PAGES_MAX = 1000 };

/* Classic TIFF and BigTIFF differ in the width of counts and offsets. */
struct tiff {
    struct bytes data;
    bool big_endian, big;
};

static bool broken(struct error *err)
{
    return error_set(err, ERROR_BAD_IMAGE, "the TIFF file has a broken directory");
}

static bool get(const struct tiff *t, uint64_t pos, unsigned size, uint64_t *ret)
{
    if (pos > t->data.len || size > t->data.len - pos)
        return false;
    *ret = 0;
    for (unsigned i = 0; i < size; i++)
        *ret = *ret << 8 | t->data.data[pos + (t->big_endian ? i : size - 1 - i)];
    return true;
}

static unsigned offset_size(const struct tiff *t)
{
    return t->big ? 8 : 4;
}

/* The first value of the entry at `pos`; only whole numbers, which is all that is asked for. */
static bool entry_value(const struct tiff *t, uint64_t pos, uint64_t *ret)
{
    uint64_t type, count, at = pos + 4 + offset_size(t);
    unsigned size;

    if (!get(t, pos + 2, 2, &type) || !get(t, pos + 4, offset_size(t), &count))
        return false;
    size = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : type == 16 ? 8 : 0;
    if (size == 0 || count == 0)
        return false;
    if (count > offset_size(t) / size && !get(t, at, offset_size(t), &at))
        return false;
    return get(t, at, size, ret);
}

/* Walk the directory at `pos`: tags into `values` (as long as `tags`), *next to the following one.
 */
static bool read_directory(const struct tiff *t, uint64_t pos, const uint16_t *tags,
                           uint64_t *values, size_t n_tags, uint64_t *next)
{
    unsigned count_size = t->big ? 8 : 2, entry_size = t->big ? 20 : 12;
    uint64_t entries, tag;

    if (!get(t, pos, count_size, &entries) || entries > 4096)
        return false;
    pos += count_size;
    for (; entries > 0; entries--, pos += entry_size) {
        if (!get(t, pos, 2, &tag))
            return false;
        for (size_t i = 0; i < n_tags; i++) {
            if (tag == tags[i] && !entry_value(t, pos, &values[i]))
                return false;
        }
    }
    return get(t, pos, offset_size(t), next);
}

bool tiff_header_read(struct bytes data, struct tiff_header *ret, struct error *err)
{
    static const uint16_t tags[] = {256, 257, 258, 277, 278, 322, 323};
    enum { WIDTH, HEIGHT, BITS, BANDS, STRIP, TILE_WIDTH, TILE_HEIGHT, N_TAGS };
    uint64_t v[N_TAGS] = {[BITS] = 1, [BANDS] = 1};
    struct tiff t = {.data = data};
    uint64_t next = 0;

    *ret = (struct tiff_header){0};
    if (data.len < 8)
        return broken(err);
    t.big_endian = data.data[0] == 'M';
    t.big = data.data[t.big_endian ? 3 : 2] == 43;
    if (!get(&t, t.big ? 8 : 4, offset_size(&t), &next) ||
        !read_directory(&t, next, tags, v, N_TAGS, &next))
        return broken(err);
    if (v[WIDTH] == 0 || v[WIDTH] > INT32_MAX || v[HEIGHT] == 0 || v[HEIGHT] > INT32_MAX ||
        v[BITS] == 0 || v[BITS] > 128 || v[BANDS] > UINT16_MAX || v[TILE_WIDTH] > INT32_MAX ||
        v[TILE_HEIGHT] > INT32_MAX)
        return broken(err);

    for (ret->pages = 1; next != 0; ret->pages++) {
        if (ret->pages == PAGES_MAX) /* or a loop */
            return error_set(err, ERROR_BAD_IMAGE, "the TIFF file has more than %d pages",
                             PAGES_MAX);
        if (!read_directory(&t, next, NULL, NULL, 0, &next))
            return broken(err);
    }
    ret->width = (int)v[WIDTH];
    ret->height = (int)v[HEIGHT];
    ret->bits = (int)v[BITS];
    ret->bands = (int)v[BANDS];
    if (v[STRIP] == 0 || v[STRIP] > v[HEIGHT])
        v[STRIP] = v[HEIGHT];
    ret->chunk = (int64_t)(v[TILE_WIDTH] * v[TILE_HEIGHT]);
    if (ret->chunk == 0)
        ret->chunk = (int64_t)(v[WIDTH] * v[STRIP]);
    return true;
}
