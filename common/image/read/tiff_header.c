/* The first page of a TIFF file, by its directory (TIFF 6.0). libvips and libtiff read many kinds
 * of TIFF wrongly without an error, so what is read is an allow-list: the kinds that the tests
 * compare with another decoder (test_oracle.py). */
#include "image/private.h"

#include <inttypes.h>
#include <string.h>

enum { PAGES_COUNTED = 1000, CHANNELS_MAX = 16 };

/* The entries that matter for the pixels, and their numbers in the file. */
enum tag {
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    STRIP_AT,
    CHANNELS,
    STRIP_ROWS,
    STRIP_BYTES,
    PLANAR,
    PREDICTOR,
    COLOUR_MAP,
    TILE_WIDTH,
    TILE_HEIGHT,
    TILE_AT,
    TILE_BYTES,
    INKS,
    EXTRA,
    SAMPLE_FORMAT,
    DNG,
    N_TAGS
};
static const uint16_t tags[N_TAGS] = {256, 257, 258, 259, 262, 273, 277, 278, 279, 284,
                                      317, 320, 322, 323, 324, 325, 332, 338, 339, 50706};

/* Values of an entry, inside the file; none when it is missing. */
struct field {
    uint64_t at, count;
    unsigned size;
};

/* Classic TIFF and BigTIFF differ in the width of counts and offsets. */
struct tiff {
    struct bytes data;
    bool big_endian, big;
    struct field fields[N_TAGS]; /* of the first directory */
};

static bool broken(struct error *err)
{
    return error_set(err, ERROR_BAD_IMAGE, "the TIFF file has a broken directory");
}

static bool outside(struct error *err)
{
    return error_set(err, ERROR_BAD_IMAGE, "the TIFF file is incomplete: parts lie behind its end");
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

/* The bytes of a value by its type; 0 for a type that readers skip. */
static unsigned type_size(uint64_t type)
{
    static const uint8_t sizes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8};

    return type < sizeof(sizes) ? sizes[type] : 0;
}

/* Where the values of the entry at `pos` are. */
static bool read_entry(const struct tiff *t, uint64_t pos, struct field *ret, struct error *err)
{
    struct field f = {.at = pos + 4 + offset_size(t)};
    uint64_t type;

    if (!get(t, pos + 2, 2, &type) || !get(t, pos + 4, offset_size(t), &f.count))
        return broken(err);
    f.size = type_size(type);
    if (f.size == 0)
        f.count = 0;
    if (f.count > t->data.len)
        return outside(err);
    if (f.count * f.size > offset_size(t) && !get(t, f.at, offset_size(t), &f.at))
        return broken(err);
    if (f.at > t->data.len || f.count * f.size > t->data.len - f.at)
        return outside(err);
    *ret = f;
    return true;
}

/* Walk the directory at `pos`: entries into `fields` (NULL: unwanted), *next to the following one.
 */
static bool read_directory(const struct tiff *t, uint64_t pos, struct field *fields, uint64_t *next,
                           struct error *err)
{
    unsigned count_size = t->big ? 8 : 2, entry_size = t->big ? 20 : 12;
    uint64_t entries, tag;

    if (!get(t, pos, count_size, &entries) || entries > 4096)
        return broken(err);
    pos += count_size;
    if (fields == NULL)
        return get(t, pos + entries * entry_size, offset_size(t), next) || broken(err);
    for (; entries > 0; entries--, pos += entry_size) {
        struct field field;

        if (!get(t, pos, 2, &tag))
            return broken(err);
        if (!read_entry(t, pos, &field, err))
            return false;
        for (size_t i = 0; i < N_TAGS; i++) {
            if (tag == tags[i] && fields[i].count == 0)
                fields[i] = field;
        }
    }
    return get(t, pos, offset_size(t), next) || broken(err);
}

/* Value `i` of a field; of a field with fewer the first, and `missing` without any. */
static uint64_t value(const struct tiff *t, enum tag tag, uint64_t i, uint64_t missing)
{
    const struct field *f = &t->fields[tag];
    uint64_t number = missing;

    if (f->count > 0)
        (void)get(t, f->at + (i < f->count ? i : 0) * f->size, f->size, &number);
    return number;
}

static bool all_equal(const struct tiff *t, enum tag tag, int channels)
{
    for (uint64_t i = 1; i < (uint64_t)channels; i++) {
        if (value(t, tag, i, 0) != value(t, tag, 0, 0))
            return false;
    }
    return true;
}

/* --- which kinds are read --- */

enum { GREY_INVERTED = 0, GREY = 1, RGB = 2, PALETTE = 3, CMYK = 5, YCBCR = 6, LAB = 8 };
enum { COMPRESSION_FAX_FIRST = 2, COMPRESSION_FAX_LAST = 4, COMPRESSION_JPEG = 7 };
enum { SAMPLES_UNSIGNED = 1, SAMPLES_SIGNED = 2, SAMPLES_FLOAT = 3, SAMPLES_UNTYPED = 4 };
enum { EXTRA_UNSPECIFIED = 0, EXTRA_PREMULTIPLIED = 1, EXTRA_ALPHA = 2, EXTRA_COREL = 999 };

static bool unsupported(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool unsupported(struct error *err, const char *format, ...)
{
    char kind[80];
    va_list args;

    va_start(args, format);
    vsnprintf(kind, sizeof(kind), format, args);
    va_end(args);
    return error_set(err, ERROR_UNSUPPORTED_MEDIA, "this kind of TIFF is not supported: %s", kind);
}

/* Colour channels by the photometric interpretation; 0 for one that is not read. */
static int colours_of(uint64_t photometric)
{
    static const uint8_t colours[] = {
        [GREY_INVERTED] = 1, [GREY] = 1,  [RGB] = 3, [PALETTE] = 1,
        [CMYK] = 4,          [YCBCR] = 3, [LAB] = 3,
    };

    return photometric < sizeof(colours) ? colours[photometric] : 0;
}

static bool check_colours(const struct tiff *t, const struct tiff_header *h, struct error *err)
{
    uint64_t photometric = value(t, PHOTOMETRIC, 0, GREY);

    if (t->fields[DNG].count > 0 || photometric == 32803 || photometric == 34892)
        return unsupported(err, "a camera's raw file");
    if (photometric == 32844 || photometric == 32845)
        return unsupported(err, "LogLuv colours");
    if (h->colours == 0)
        return unsupported(err, "photometric interpretation %" PRIu64, photometric);
    if (h->bands < h->colours)
        return broken(err);
    if (h->bands > CHANNELS_MAX)
        return unsupported(err, "%d channels", h->bands);
    if (photometric == CMYK && value(t, INKS, 0, 1) != 1)
        return unsupported(err, "inks that are not CMYK");
    if (photometric == PALETTE && t->fields[COLOUR_MAP].count < (uint64_t)3 << h->bits)
        return broken(err);
    return true;
}

/* Numbers of which kind a channel has. */
static bool check_samples(const struct tiff *t, const struct tiff_header *h, struct error *err)
{
    uint64_t photometric = value(t, PHOTOMETRIC, 0, GREY);
    uint64_t format = value(t, SAMPLE_FORMAT, 0, SAMPLES_UNSIGNED);
    bool few = h->bits == 1 || h->bits == 2 || h->bits == 4;

    if (!all_equal(t, BITS, h->bands) || !all_equal(t, SAMPLE_FORMAT, h->bands))
        return unsupported(err, "channels of different kinds");
    if (format == SAMPLES_FLOAT)
        return unsupported(err, "%d-bit float", h->bits);
    /* a and b of Lab have signs, whatever the tag says */
    if (format != SAMPLES_UNSIGNED && format != SAMPLES_UNTYPED &&
        !(photometric == LAB && format == SAMPLES_SIGNED))
        return unsupported(
            err, format == SAMPLES_SIGNED ? "%d-bit signed numbers" : "%d-bit complex numbers",
            h->bits);
    if (h->bits != 8 && !(h->bits == 16 && photometric != PALETTE) &&
        !(few && h->bands == 1 && photometric <= PALETTE))
        return unsupported(err, "%d bits a channel", h->bits);
    return true;
}

static bool check_compression(const struct tiff *t, const struct tiff_header *h, struct error *err)
{
    static const struct {
        uint16_t number;
        const char *unread; /* NULL: is read */
    } known[] = {
        {1, NULL},
        {2, NULL},
        {3, NULL},
        {4, NULL},
        {5, NULL}, /* LZW */
        {7, NULL},
        {8, NULL}, /* Deflate */
        {32946, NULL},
        {32773, NULL}, /* PackBits */
        {34925, NULL}, /* LZMA */
        {50000, NULL}, /* Zstandard */
        {6, "old-style JPEG"},
        {34676, "LogLuv"},
        {34677, "LogLuv"},
        {34712, "JPEG 2000"},
        {34887, "LERC"},
        {50001, NULL},
        {50002, "JPEG XL"},
        {52546, "JPEG XL"},
    };
    uint64_t number = value(t, COMPRESSION, 0, 1), photometric = value(t, PHOTOMETRIC, 0, GREY);
    size_t i = 0;

    while (i < ARRAY_SIZE(known) && known[i].number != number)
        i++;
    if (i == ARRAY_SIZE(known))
        return unsupported(err, "compression %" PRIu64, number);
    if (known[i].unread != NULL)
        return unsupported(err, "%s inside", known[i].unread);
    if (number >= COMPRESSION_FAX_FIRST && number <= COMPRESSION_FAX_LAST && h->bits != 1)
        return unsupported(err, "fax compression of %d bits", h->bits);
    if (number == COMPRESSION_JPEG &&
        (h->bits != 8 || photometric == PALETTE || photometric == LAB || h->bands != h->colours ||
         value(t, PLANAR, 0, 1) != 1))
        return unsupported(err, "JPEG inside, with such channels");
    if (photometric == YCBCR && number != COMPRESSION_JPEG)
        return unsupported(err, "YCbCr without JPEG compression");
    if (value(t, PREDICTOR, 0, 1) > 2)
        return unsupported(err, "predictor %" PRIu64, value(t, PREDICTOR, 0, 1));
    return true;
}

/* libvips takes separate planes for what lies channel beside channel, except in these. */
static bool check_planes(const struct tiff *t, const struct tiff_header *h, struct error *err)
{
    uint64_t photometric = value(t, PHOTOMETRIC, 0, GREY);

    if (value(t, PLANAR, 0, 1) == 1 || h->bands == 1)
        return true;
    if (photometric != RGB && photometric != CMYK)
        return unsupported(err, "such channels in separate planes");
    if (t->fields[TILE_AT].count > 0)
        return unsupported(err, "separate planes of tiles");
    return true;
}

/* The first extra channel that is transparency. One without a kind is none; a file with no word
 * about extra channels has it behind its colours. */
static bool find_alpha(const struct tiff *t, struct tiff_header *h, struct error *err)
{
    int premultiplied = 0;

    h->alpha = t->fields[EXTRA].count == 0 && h->bands > h->colours ? h->colours : -1;
    for (int i = h->bands - 1; i >= h->colours; i--) {
        uint64_t n = t->fields[EXTRA].count, at = (uint64_t)(i - h->colours);
        uint64_t kind = at < n ? value(t, EXTRA, at, 0) : EXTRA_UNSPECIFIED;

        if (kind == EXTRA_PREMULTIPLIED || kind == EXTRA_ALPHA || kind == EXTRA_COREL)
            h->alpha = i;
        premultiplied += kind == EXTRA_PREMULTIPLIED;
    }
    /* libvips divides by the last premultiplied one, whatever the colours are */
    uint64_t photometric = value(t, PHOTOMETRIC, 0, GREY);
    uint64_t first = h->alpha >= 0 ? value(t, EXTRA, (uint64_t)(h->alpha - h->colours), 0) : 0;
    if (premultiplied > 1 || (premultiplied == 1 && first != EXTRA_PREMULTIPLIED))
        return unsupported(err, "several kinds of transparency");
    if (premultiplied == 1 && photometric != RGB && photometric != GREY)
        return unsupported(err, "premultiplied transparency of such colours");
    return true;
}

/* The bytes of a whole strip or tile without compression, which some writers get wrong in its
 * entry. */
static uint64_t plain_bytes(const struct tiff *t, const struct tiff_header *h)
{
    bool tiles = t->fields[TILE_AT].count > 0;
    uint64_t width = tiles ? value(t, TILE_WIDTH, 0, 0) : (uint64_t)h->width;
    uint64_t bands = value(t, PLANAR, 0, 1) == 1 ? (uint64_t)h->bands : 1;
    uint64_t row = (width * bands * (uint64_t)h->bits + 7) / 8;

    return width == 0 ? 0 : row * ((uint64_t)h->chunk / width);
}

/* Whatever part of the pixels is missing, libtiff may make it up. */
static bool check_chunks(const struct tiff *t, const struct tiff_header *h, struct error *err)
{
    bool tiles = t->fields[TILE_AT].count > 0;
    enum tag at = tiles ? TILE_AT : STRIP_AT, bytes = tiles ? TILE_BYTES : STRIP_BYTES;
    uint64_t most = value(t, COMPRESSION, 0, 1) == 1 ? plain_bytes(t, h) : UINT64_MAX;

    if (t->fields[at].count == 0)
        return broken(err);
    for (uint64_t i = 0; i < t->fields[at].count; i++) {
        uint64_t from = value(t, at, i, 0);
        uint64_t len = i < t->fields[bytes].count ? value(t, bytes, i, 0) : 0;

        if (from > t->data.len || VIPS_MIN(len, most) > t->data.len - from)
            return outside(err);
    }
    return true;
}

/* --- the header --- */

static bool read_size(const struct tiff *t, struct tiff_header *ret, struct error *err)
{
    uint64_t width = value(t, WIDTH, 0, 0), height = value(t, HEIGHT, 0, 0);
    uint64_t bits = value(t, BITS, 0, 1), bands = value(t, CHANNELS, 0, 1);
    uint64_t photometric = value(t, PHOTOMETRIC, 0, GREY), rows = value(t, STRIP_ROWS, 0, 0);
    uint64_t tile_width = value(t, TILE_WIDTH, 0, 0), tile_height = value(t, TILE_HEIGHT, 0, 0);

    if (width == 0 || width > INT32_MAX || height == 0 || height > INT32_MAX || bits == 0 ||
        bits > 128 || bands == 0 || bands > UINT16_MAX || tile_width > INT32_MAX ||
        tile_height > INT32_MAX)
        return broken(err);
    if (rows == 0 || rows > height)
        rows = height;
    ret->width = (int)width;
    ret->height = (int)height;
    ret->bits = (int)bits;
    ret->bands = (int)bands;
    ret->grey = bands == 1 && photometric != PALETTE;
    ret->colours = colours_of(photometric);
    ret->chunk = (int64_t)(tile_width * tile_height);
    if (ret->chunk == 0)
        ret->chunk = (int64_t)(width * rows);
    return true;
}

/* Opens the file and walks the first directory; *next is where the second one is. */
static bool open_first(struct tiff *t, uint64_t *next, struct error *err)
{
    if (t->data.len < 8)
        return broken(err);
    t->big_endian = t->data.data[0] == 'M';
    t->big = t->data.data[t->big_endian ? 3 : 2] == 43;
    return (get(t, t->big ? 8 : 4, offset_size(t), next) || broken(err)) &&
           read_directory(t, *next, t->fields, next, err);
}

bool tiff_header_read(struct bytes data, struct tiff_header *ret, struct error *err)
{
    struct tiff t = {.data = data};
    uint64_t next = 0;

    *ret = (struct tiff_header){0};
    if (!open_first(&t, &next, err) || !read_size(&t, ret, err))
        return false;
    /* they may go round in circles */
    for (ret->pages = 1; next != 0 && ret->pages < PAGES_COUNTED; ret->pages++) {
        if (!read_directory(&t, next, NULL, &next, err))
            return false;
    }
    return check_compression(&t, ret, err) && check_colours(&t, ret, err) &&
           check_samples(&t, ret, err) && check_planes(&t, ret, err) && find_alpha(&t, ret, err) &&
           check_chunks(&t, ret, err);
}

bool tiff_first_page(struct bytes data, struct buffer *ret, struct error *err)
{
    struct tiff t = {.data = data};
    uint64_t next = 0, at = 0, entries = 0, count_size;

    if (!open_first(&t, &next, err) || !buffer_append(ret, data.data, data.len, err))
        return false;
    count_size = t.big ? 8 : 2;
    if (!get(&t, t.big ? 8 : 4, offset_size(&t), &at) ||
        !get(&t, at, (unsigned)count_size, &entries))
        return broken(err);
    memset(ret->data + at + count_size + entries * (t.big ? 20 : 12), 0, offset_size(&t));
    return true;
}
