/* Images, from bytes to a stored image and to a tensor. Eight bytes of options come first: what is
 * made (read_options), its size, its quality and its background.
 *
 * Mutations are of the bytes, but mostly repaired afterwards, since a wrong checksum or length
 * would end nearly all of them at the door: lengths of JPEG segments and the end marker, lengths
 * and checksums of PNG chunks, lengths of RIFF chunks. */
#include "image/image.h"
#include "fuzz.h"

#include <math.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
#pragma weak LLVMFuzzerMutate /* replay.c has none */

enum { OPTION_BYTES = 8, SIDE = 24 };

/* ---- repairs */

static uint32_t get32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32be(uint8_t *p, uint32_t n)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(n >> (24 - 8 * i));
}

/* ISO 3309, as PNG uses it. */
static uint32_t crc32_of(const uint8_t *p, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320 & (0U - (crc & 1U)));
    }
    return ~crc;
}

static void repair_png(uint8_t *p, size_t len)
{
    for (size_t at = 8; len - at >= 12;) {
        uint32_t size = get32be(p + at);
        if (size > len - at - 12) {
            size = (uint32_t)(len - at - 12);
            put32be(p + at, size);
        }
        put32be(p + at + 8 + size, crc32_of(p + at + 4, (size_t)size + 4));
        at += (size_t)size + 12;
    }
}

static void put32le(uint8_t *p, size_t n)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(n >> (8 * i));
}

static void repair_webp(uint8_t *p, size_t len)
{
    put32le(p + 4, len - 8);
    for (size_t at = 12; len - at >= 8;) {
        size_t size =
            p[at + 4] | (size_t)p[at + 5] << 8 | (size_t)p[at + 6] << 16 | (size_t)p[at + 7] << 24;
        if (size > len - at - 8) {
            size = len - at - 8;
            put32le(p + at + 4, size);
        }
        size += size & 1;
        if (size > len - at - 8)
            return;
        at += size + 8;
    }
}

/* Segments up to the first scan; the end marker. */
static void repair_jpeg(uint8_t *p, size_t len)
{
    p[len - 2] = 0xff;
    p[len - 1] = 0xd9;
    for (size_t at = 2; at + 6 <= len && p[at] == 0xff;) {
        size_t size = (size_t)p[at + 2] << 8 | p[at + 3];
        if (size < 2 || size > len - at - 4) {
            size = len - at - 4;
            p[at + 2] = (uint8_t)(size >> 8);
            p[at + 3] = (uint8_t)size;
        }
        if (p[at + 1] == 0xda || size < 2)
            return;
        at += size + 2;
    }
}

static void repair(uint8_t *data, size_t len)
{
    switch (image_sniff(bytes_of(data, len))) {
    case IMAGE_JPEG:
        if (len >= 8)
            repair_jpeg(data, len);
        break;
    case IMAGE_PNG:
        repair_png(data, len);
        break;
    case IMAGE_WEBP:
        repair_webp(data, len);
        break;
    case IMAGE_GIF:
    case IMAGE_TIFF:
    case IMAGE_HEIC:
    case IMAGE_AVIF:
    case IMAGE_UNKNOWN:
        break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    if (size <= OPTION_BYTES + 12 || max_size <= OPTION_BYTES || seed % 8 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t len =
        LLVMFuzzerMutate(data + OPTION_BYTES, size - OPTION_BYTES, max_size - OPTION_BYTES);
    if (seed % 8 > 2 && len > 12)
        repair(data + OPTION_BYTES, len);
    return OPTION_BYTES + len;
}

/* ---- what must hold */

static const struct image_limits limits = {.max_pixels = 1 << 20, .max_decode_bytes = 32 << 20};
static struct image_scratch *worker;

static void free_worker(void)
{
    image_scratch_free(worker);
}

/* Of the last byte of the options: 0 to 7 stand for none. */
static void read_operations(uint8_t o, struct image_options *options)
{
    static const char *const medians[] = {"", "3", "5", "9"}, *const means[] = {"", "3"},
                             *const turns[] = {"", "90", "270", "37"};
    const struct {
        const char *name, *value;
    } asked[] = {
        {"median", medians[o >> 3 & 3]}, {"mean", means[o >> 5 & 1]}, {"rotate", turns[o >> 6]}};
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
        if (*asked[i].value != '\0')
            FUZZ_CHECK(image_options_set(options, asked[i].name, asked[i].value, &err));
}

/* Small results, since it is the decoders that are asked; AVIF seldom: it takes long. */
static struct image_options read_options(const uint8_t o[OPTION_BYTES])
{
    static const enum image_format formats[] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_JPEG};

    struct image_options options = {
        .fit = (enum image_fit)(o[0] >> 2 & 3),
        .format = o[0] >> 4 == 7 ? IMAGE_AVIF : formats[o[0] >> 4 & 3],
        .width = o[1] == 0 ? 0 : o[1] % 64 + (o[7] == 1 ? 400 : 0) + 1,
        .height = o[2] == 0 ? 0 : o[2] % 64 + (o[7] == 2 ? 400 : 0) + 1,
        .quality = o[3] % 100 + 1,
        .background = (uint32_t)o[4] << 16 | (uint32_t)o[5] << 8 | o[6],
    };
    if (o[7] == 3) {
        options.fit = IMAGE_NONE;
        options.width = options.height = 0;
    }
    read_operations(o[7], &options);
    return options;
}

static void check_failure(const struct error *err)
{
    FUZZ_CHECK_ERROR(err, ERROR_UNSUPPORTED_MEDIA, ERROR_TOO_LARGE, ERROR_BAD_IMAGE,
                     ERROR_BAD_REQUEST);
}

static void check_size(const struct image_options *options, const struct image_result *result)
{
    bool unset = options->width == 0 && options->height == 0;
    int width = unset ? 256 : options->width, height = unset ? 256 : options->height;

    FUZZ_CHECK(result->width >= 1 && result->height >= 1);
    if (options->fit == IMAGE_NONE)
        return;
    if (options->fit == IMAGE_INSIDE) {
        FUZZ_CHECK(width == 0 || result->width <= width);
        FUZZ_CHECK(height == 0 || result->height <= height);
    } else {
        FUZZ_CHECK(width == 0 || result->width == width);
        FUZZ_CHECK(height == 0 || result->height == height);
    }
}

static void check_tensor(struct bytes data, bool must)
{
    static uint8_t pixels[3 * SIDE * SIDE];
    static float values[3 * SIDE * SIDE];
    const struct image_tensor_spec spec = {
        .width = SIDE, .height = SIDE, .short_side = SIDE + 3, .nchw = true, .std = {1, 1, 1}};
    const struct image_input input = {.data = data, .limits = &limits};
    struct image_stages stages;
    struct error err = {0};

    if (!image_to_pixels(worker, &input, &spec, pixels, &stages, &err)) {
        check_failure(&err);
        FUZZ_CHECK(!must);
        return;
    }
    image_tensor_fill(pixels, &spec, values);
    for (size_t i = 0; i < ARRAY_SIZE(values); i++)
        FUZZ_CHECK(isfinite(values[i]) && values[i] >= 0 && values[i] <= 255.5F);
}

/* It is what was asked for, of that size, without metadata, and can be read. */
static void check_result(const struct image_options *options, const struct image_result *result)
{
    struct bytes data = bytes_of(result->data, result->len);
    struct image_header header;
    struct error err = {0};

    check_size(options, result);
    FUZZ_CHECK(image_sniff(data) == options->format);
    FUZZ_CHECK(image_probe(data, &limits, &header, &err));
    FUZZ_CHECK(header.width == result->width && header.height == result->height);
    FUZZ_CHECK(header.pages == 1);
    FUZZ_CHECK(memmem(data.data, data.len, "Exif\0\0", 6) == NULL &&
               memmem(data.data, data.len, "ICC_PROFILE", 11) == NULL &&
               memmem(data.data, data.len, "http://ns.adobe.com", 19) == NULL);
    check_tensor(data, true);
}

/* The same upload is the same object. */
static void check_again(const struct image_input *input, const struct image_options *options,
                        const struct image_result *before)
{
    struct image_result result;
    struct error err = {0};

    FUZZ_CHECK(image_transform(worker, input, options, &result, &err));
    FUZZ_CHECK(bytes_equal(bytes_of(before->data, before->len), bytes_of(result.data, result.len)));
    image_result_done(&result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_result result;
    struct error err = {0};

    if (size < OPTION_BYTES)
        return 0;
    if (worker == NULL) {
        FUZZ_CHECK(image_start(&err));
        worker = image_scratch_new(&err);
        FUZZ_CHECK(worker != NULL);
        atexit(free_worker);
    }
    const struct image_options options = read_options(data);
    const struct image_input input = {.data = bytes_of(data + OPTION_BYTES, size - OPTION_BYTES),
                                      .limits = &limits};
    if ((data[0] & 1) != 0) {
        check_tensor(input.data, false);
    } else if (image_transform(worker, &input, &options, &result, &err)) {
        check_result(&options, &result);
        if ((data[0] & 2) != 0)
            check_again(&input, &options, &result);
        image_result_done(&result);
    } else {
        check_failure(&err);
    }
    return 0;
}
