/* Our own readers of image headers: what is refused before any codec sees it. */
#include "fuzz.h"
#include "image/read/colours.h"
#include "image/read/jpeg.h"

static const struct image_limits limits = {.max_pixels = 50000000, .max_decode_bytes = 256 << 20};

static void check_metadata(struct bytes data)
{
    struct scratch_buffer scratch = {0};
    struct jpeg_metadata m;
    struct error err = {0};

    FUZZ_CHECK(jpeg_metadata_read(data, &scratch, &m, &err));
    FUZZ_CHECK(m.orientation >= 1 && m.orientation <= 8);
    FUZZ_CHECK(m.profile.len < data.len);
    if (m.profile.len > 0)
        icc_is_srgb(m.profile);
    scratch_buffer_done(&scratch);
}

static void check_jpeg(struct bytes data)
{
    struct jpeg_header h;
    struct error err = {0};

    if (!jpeg_header_read(data, &h, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_IMAGE);
        return;
    }
    FUZZ_CHECK(h.width >= 1 && h.width <= 65535 && h.height >= 1 && h.height <= 65535);
    FUZZ_CHECK(h.components >= 1 && h.components <= 255);
    FUZZ_CHECK(h.samples >= (int64_t)h.width * h.height / 16);
    FUZZ_CHECK(!h.progressive || h.coefficients);
    check_metadata(data);
}

static void check_tiff(struct bytes data)
{
    struct tiff_header h;
    struct error err = {0};

    if (!tiff_header_read(data, &h, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_IMAGE, ERROR_TOO_LARGE, ERROR_UNSUPPORTED_MEDIA);
        return;
    }
    FUZZ_CHECK(h.width >= 1 && h.height >= 1 && h.pages >= 1 && h.bits >= 1 && h.chunk >= 1);
    FUZZ_CHECK(h.colours >= 1 && h.colours <= h.bands && h.alpha >= -1 && h.alpha < h.bands);
}

static void check_code_points(struct bytes data)
{
    struct buffer profile = BUFFER_MAX(1 << 20);
    const struct cicp found[] = {heif_item_read(data).cicp, png_cicp_read(data)};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(found); i++) {
        FUZZ_CHECK(!cicp_differs(&found[i]) || cicp_profile(&found[i], i == 0, &profile, &err));
        buffer_done(&profile);
        profile.max = 1 << 20;
    }
}

/* What is left of the file has one page. (Its parts may have lain on the link to the second.) */
static void check_first_page(struct bytes data)
{
    struct buffer copy = BUFFER_MAX(data.len);
    struct tiff_header before, after;
    struct error err = {0};

    if (tiff_header_read(data, &before, &err) && before.pages > 1) {
        FUZZ_CHECK(tiff_first_page(data, &copy, &err) && copy.len == data.len);
        FUZZ_CHECK(!tiff_header_read(buffer_view(&copy), &after, &err) || after.pages == 1);
    }
    buffer_done(&copy);
}

/* Mended, there is nothing left to mend, and nothing else has changed. */
static void check_heif(struct bytes data)
{
    struct scratch_buffer copy = {0}, again = {0};
    struct bytes mended = data, same;
    struct heif_header h, i;
    struct error err = {0};

    FUZZ_CHECK(heif_mend(&mended, &copy, &err) && mended.len == data.len);
    same = mended;
    FUZZ_CHECK(heif_mend(&same, &again, &err) && same.data == mended.data);
    heif_header_read(data, &h);
    heif_header_read(mended, &i);
    FUZZ_CHECK(h.pixels >= 0 && h.pixels <= i.pixels && h.pixels >= i.pixels && h.deep == i.deep);
    scratch_buffer_done(&copy);
    scratch_buffer_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    enum image_format format = image_sniff(in);
    const struct image_options options = image_options_default();
    struct image_header h;
    struct image_cost cost;
    struct error err = {0};

    if (size >= 2)
        check_jpeg(in);
    if (format == IMAGE_TIFF)
        check_tiff(in);
    if (format == IMAGE_TIFF)
        check_first_page(in);
    icc_is_srgb(in);
    check_heif(in);
    check_code_points(in);
    if (format == IMAGE_HEIC || format == IMAGE_AVIF) {
        FUZZ_CHECK(image_precheck(in, &options, &limits, &cost, &err)); /* libheif's: not here */
        return 0;
    }
    if (!image_probe(in, &limits, &h, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_IMAGE, ERROR_TOO_LARGE, ERROR_UNSUPPORTED_MEDIA);
        FUZZ_CHECK((format == IMAGE_UNKNOWN) <= (err.code == ERROR_UNSUPPORTED_MEDIA));
        err = (struct error){0};
        FUZZ_CHECK(!image_precheck(in, &options, &limits, &cost, &err));
        return 0;
    }
    FUZZ_CHECK(h.format == format && format != IMAGE_UNKNOWN);
    FUZZ_CHECK(h.width >= 1 && h.height >= 1 && h.pages >= 1 && h.bands >= 1 && h.bands <= 16);
    FUZZ_CHECK((int64_t)h.width * h.height <= limits.max_pixels);
    FUZZ_CHECK(image_precheck(in, &options, &limits, &cost, &err));
    return 0;
}
