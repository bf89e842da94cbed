/* What can be told of a HEIF file without libheif: ISO/IEC 14496-12 boxes (a size, a type, and what
 * they hold), of which `meta` has the items' properties (`iprp`, `ipco`) and references (`iref`),
 * ISO/IEC 23008-12. Nothing is refused here: what is broken, libheif refuses. */
#include "image/private.h"

#include <string.h>

static uint64_t get(const uint8_t *p, size_t size)
{
    uint64_t n = 0;

    for (size_t i = 0; i < size; i++)
        n = n << 8 | p[i];
    return n;
}

/* The box that begins `*rest`, which is left behind it; false at the end, or when it is broken. */
static bool next_box(struct bytes *rest, const uint8_t **type, struct bytes *ret)
{
    size_t head = 8;
    uint64_t size;

    if (rest->len < head)
        return false;
    size = get(rest->data, 4);
    *type = rest->data + 4;
    if (size == 1 && rest->len >= 16) { /* it stands behind the type */
        head = 16;
        size = get(rest->data + 8, 8);
    } else if (size == 0) { /* to the end */
        size = rest->len;
    }
    if (size < head || size > rest->len)
        return false;
    *ret = bytes_of(rest->data + head, (size_t)size - head);
    *rest = bytes_of(rest->data + size, rest->len - (size_t)size);
    return true;
}

static bool is(const uint8_t *type, const char *name)
{
    return memcmp(type, name, 4) == 0;
}

/* The first box of that name; empty without. `skip`: bytes before the boxes (4 in a FullBox). */
static struct bytes find_box(struct bytes in, size_t skip, const char *name)
{
    struct bytes box;
    const uint8_t *type;

    if (in.len < skip)
        return bytes_of(NULL, 0);
    in = bytes_of(in.data + skip, in.len - skip);
    while (next_box(&in, &type, &box)) {
        if (is(type, name))
            return box;
    }
    return bytes_of(NULL, 0);
}

void heif_header_read(struct bytes data, struct heif_header *ret)
{
    struct bytes properties = find_box(find_box(find_box(data, 0, "meta"), 4, "iprp"), 0, "ipco");
    struct bytes box;
    const uint8_t *type;

    *ret = (struct heif_header){0};
    while (next_box(&properties, &type, &box)) {
        if (is(type, "ispe") && box.len >= 12) { /* a FullBox: width, height */
            double pixels = (double)get(box.data + 4, 4) * (double)get(box.data + 8, 4);

            ret->pixels = pixels > ret->pixels ? pixels : ret->pixels;
        }
        if (is(type, "hvcC") && box.len > 17) /* bit_depth_luma_minus8 */
            ret->deep |= (box.data[17] & 7) > 0;
        if (is(type, "av1C") && box.len > 2) /* high_bitdepth */
            ret->deep |= (box.data[2] & 0x40) != 0;
    }
}

/* Of a reference, `from` the item, to how many others. */
static uint64_t reference_count(struct bytes reference, size_t id_size)
{
    return reference.len >= id_size + 2 ? get(reference.data + id_size, 2) : 0;
}

bool heif_mend(struct bytes *data, struct scratch_buffer *copy, struct error *err)
{
    static const uint8_t passed_over[] = {'f', 'r', 'e', 'e'};
    struct bytes references = find_box(find_box(*data, 0, "meta"), 4, "iref"), box;
    const uint8_t *type;
    bool copied = false;

    if (references.len < 4)
        return true;
    size_t id_size = references.data[0] == 0 ? 2 : 4; /* by the version of the box */
    references = bytes_of(references.data + 4, references.len - 4);
    while (next_box(&references, &type, &box)) {
        if (!is(type, "auxl") || reference_count(box, id_size) < 2)
            continue;
        if (!copied) {
            if (!scratch_buffer_need(copy, data->len, err))
                return false;
            memcpy(copy->data, data->data, data->len);
            copied = true;
        }
        memcpy(copy->data + (type - data->data), passed_over, sizeof(passed_over));
    }
    if (copied)
        *data = bytes_of(copy->data, data->len);
    return true;
}
