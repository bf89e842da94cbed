/* The boxes of an HEIF file (ISO/IEC 14496-12, 23008-12) that say how its primary item is meant.
 * libheif decodes, and keeps these to itself, or its older versions forget them. */
#include "image/private.h"

#include <string.h>

struct box {
    char type[5];
    struct bytes body;
};

/* A big-endian number off the front; 0 when there is no more. */
static uint64_t take(struct bytes *from, size_t size)
{
    uint64_t n = 0;

    if (size > from->len) {
        from->len = 0;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        n = n << 8 | from->data[i];
    *from = bytes_of(from->data + size, from->len - size);
    return n;
}

static bool next_box(struct bytes *from, struct box *ret)
{
    struct bytes rest = *from;
    uint64_t size = take(&rest, 4), header = 8;

    if (rest.len < 4)
        return false;
    memcpy(ret->type, rest.data, 4);
    ret->type[4] = '\0';
    (void)take(&rest, 4);
    if (size == 1) {
        size = take(&rest, 8);
        header = 16;
    } else if (size == 0) {
        size = from->len;
    }
    if (size < header || size > from->len)
        return false;
    ret->body = bytes_of(from->data + header, (size_t)(size - header));
    *from = bytes_of(from->data + size, from->len - (size_t)size);
    return true;
}

static struct bytes find_box(struct bytes in, const char *type)
{
    struct box box;

    while (next_box(&in, &box)) {
        if (strcmp(box.type, type) == 0)
            return box.body;
    }
    return bytes_of(NULL, 0);
}

/* Version and flags of a FullBox. */
static unsigned take_version(struct bytes *box, unsigned *flags)
{
    uint64_t both = take(box, 4);

    *flags = both & 0xffffff;
    return (unsigned)(both >> 24);
}

static struct bytes find_meta(struct bytes data)
{
    struct bytes meta = find_box(data, "meta");
    unsigned flags;

    (void)take_version(&meta, &flags);
    return meta;
}

static void read_property(const struct box *p, struct heif_item *ret)
{
    const uint8_t *d = p->body.data;
    size_t len = p->body.len;

    if (strcmp(p->type, "colr") == 0 && len >= 4) {
        if (memcmp(d, "nclx", 4) == 0 && len >= 11) {
            ret->cicp = (struct cicp){d[4] << 8 | d[5], d[6] << 8 | d[7], false};
            ret->narrow = (d[10] & 0x80) == 0;
        } else if (memcmp(d, "prof", 4) == 0 || memcmp(d, "rICC", 4) == 0)
            ret->profile = true;
    }
    /* one channel, or a codec's configuration that says so (AV1's `monochrome`, HEVC's format 0) */
    if ((strcmp(p->type, "pixi") == 0 && len >= 5 && d[4] == 1) ||
        (strcmp(p->type, "av1C") == 0 && len >= 3 && (d[2] & 0x10) != 0) ||
        (strcmp(p->type, "hvcC") == 0 && len >= 17 && (d[16] & 3) == 0))
        ret->grey = true;
}

/* Property `number`, from 1. */
static void read_numbered(struct bytes properties, uint64_t number, struct heif_item *ret)
{
    struct box box;

    while (next_box(&properties, &box)) {
        if (--number == 0) {
            read_property(&box, ret);
            return;
        }
    }
}

static void read_properties(struct bytes iprp, uint64_t item, struct heif_item *ret)
{
    struct bytes properties = find_box(iprp, "ipco"), ipma = find_box(iprp, "ipma");
    unsigned flags, version = take_version(&ipma, &flags);

    for (uint64_t entries = take(&ipma, 4); entries > 0 && ipma.len > 0; entries--) {
        uint64_t id = take(&ipma, version < 1 ? 2 : 4);

        for (uint64_t n = take(&ipma, 1); n > 0; n--) {
            uint64_t number = (flags & 1) != 0 ? take(&ipma, 2) & 0x7fff : take(&ipma, 1) & 0x7f;

            if (id == item && number > 0)
                read_numbered(properties, number, ret);
        }
    }
}

static bool is_premultiplied(struct bytes iref, uint64_t item)
{
    unsigned flags, version = take_version(&iref, &flags);
    struct box box;

    while (next_box(&iref, &box)) {
        if (strcmp(box.type, "prem") == 0 && take(&box.body, version == 0 ? 2 : 4) == item)
            return true;
    }
    return false;
}

struct heif_item heif_item_read(struct bytes data)
{
    struct heif_item ret = {0};
    struct bytes meta = find_meta(data), pitm = find_box(meta, "pitm");
    unsigned flags;
    uint64_t item;

    item = take_version(&pitm, &flags) == 0 ? take(&pitm, 2) : take(&pitm, 4);
    read_properties(find_box(meta, "iprp"), item, &ret);
    ret.premultiplied = is_premultiplied(find_box(meta, "iref"), item);
    return ret;
}

void heif_header_read(struct bytes data, struct heif_header *ret)
{
    struct bytes properties = find_box(find_box(find_meta(data), "iprp"), "ipco");
    struct box box;

    *ret = (struct heif_header){0};
    while (next_box(&properties, &box)) {
        const uint8_t *d = box.body.data;

        if (strcmp(box.type, "ispe") == 0 && take(&box.body, 4) == 0) {
            double width = (double)take(&box.body, 4), height = (double)take(&box.body, 4);

            ret->pixels = width * height > ret->pixels ? width * height : ret->pixels;
        }
        if (strcmp(box.type, "hvcC") == 0 && box.body.len > 17) /* bit_depth_luma_minus8 */
            ret->deep |= (d[17] & 7) > 0;
        if (strcmp(box.type, "av1C") == 0 && box.body.len > 2) /* high_bitdepth */
            ret->deep |= (d[2] & 0x40) != 0;
    }
}

bool heif_mend(struct bytes *data, struct scratch_buffer *copy, struct error *err)
{
    static const uint8_t passed_over[] = {'f', 'r', 'e', 'e'};
    struct bytes references = find_box(find_meta(*data), "iref");
    unsigned flags;
    const size_t id_size = take_version(&references, &flags) == 0 ? 2 : 4;
    const uint8_t *at = references.data;
    bool copied = false;

    for (struct box box; next_box(&references, &box); at = references.data) {
        (void)take(&box.body, id_size); /* the item that refers, then to how many */
        if (strcmp(box.type, "auxl") != 0 || take(&box.body, 2) < 2)
            continue;
        if (!copied) {
            if (!scratch_buffer_need(copy, data->len, err))
                return false;
            memcpy(copy->data, data->data, data->len);
            copied = true;
        }
        memcpy(copy->data + (at + 4 - data->data), passed_over, sizeof(passed_over));
    }
    if (copied)
        *data = bytes_of(copy->data, data->len);
    return true;
}
