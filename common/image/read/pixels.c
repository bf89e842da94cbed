#include "image/private.h"
#include "image/read/colours.h"

#include <string.h>

static bool failed(struct error *err)
{
    return image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be decoded to its end");
}

VipsArrayDouble *pixels_background(uint32_t background)
{
    double rgb[] = {background >> 16 & 0xff, background >> 8 & 0xff, background & 0xff};

    return vips_array_double_new(rgb, 3);
}

/* libvips would only notice when it converts. Bytes 16 to 19 of a profile (ICC.1, 7.2.6). */
static bool profile_fits(struct bytes profile, const VipsImage *image)
{
    const char *space = image->Type == VIPS_INTERPRETATION_CMYK ? "CMYK"
                        : image->Bands < 3                      ? "GRAY"
                                                                : "RGB ";

    return profile.len > 128 && memcmp(profile.data + 16, space, 4) == 0;
}

/* An embedded profile that has something to say about these pixels; else empty. */
static struct bytes find_profile(VipsImage *image)
{
    const void *data;
    size_t len;

    if (vips_image_get_typeof(image, VIPS_META_ICC_NAME) != 0 &&
        vips_image_get_blob(image, VIPS_META_ICC_NAME, &data, &len) == 0 &&
        profile_fits(bytes_of(data, len), image) && !icc_is_srgb(bytes_of(data, len)))
        return bytes_of(data, len);
    return bytes_of(NULL, 0);
}

/* As VIPS_REGION_ADDR, without its conversions. */
static uint8_t *address(const VipsRegion *region, int x, int y)
{
    size_t pixel = pixels_line_size(region->im) / (size_t)region->im->Xsize;

    return region->data + (size_t)(y - region->valid.top) * (size_t)region->bpl +
           (size_t)(x - region->valid.left) * pixel;
}

static int transform_part(VipsRegion *out, void *seq, void *a, void *transform, gboolean *stop)
{
    const VipsRect *part = &out->valid;
    VipsRegion *in = seq;

    (void)a, (void)stop;
    if (vips_region_prepare(in, part) != 0)
        return -1;
    for (int y = part->top; y < part->top + part->height; y++)
        colours_apply(transform, address(in, part->left, y), address(out, part->left, y),
                      (size_t)part->width);
    return 0;
}

/* As vips_icc_transform, which makes a transform for each image: from CMYK that takes 40 ms. */
static bool transform_image(VipsImage **image, void *transform, struct error *err)
{
    VipsImage *in = *image, *out = vips_image_new();

    vips_object_local(out, in);
    *image = out;
    if (vips_image_pipelinev(out, VIPS_DEMAND_STYLE_THINSTRIP, in, NULL) != 0)
        return failed(err);
    out->Bands = 3;
    out->BandFmt = VIPS_FORMAT_UCHAR;
    out->Type = VIPS_INTERPRETATION_sRGB;
    return vips_image_generate(out, vips_start_one, transform_part, vips_stop_one, in, transform) ==
               0 ||
           failed(err);
}

/* A profile that does not work (broken, or for another number of channels) is ignored, as viewers
 * do. CMYK without any is converted by libvips' own. */
static bool apply_profile(VipsImage **image, struct colours *colours, struct error *err)
{
    struct bytes profile = find_profile(*image);
    bool inks = (*image)->Type == VIPS_INTERPRETATION_CMYK && (*image)->Bands == 4;
    struct colours_kind kind = {(*image)->Bands < 3 ? 1 : (*image)->Bands, 8};
    void *transform = NULL;

    if ((*image)->BandFmt == VIPS_FORMAT_USHORT)
        kind.bits = 16;
    else if ((*image)->BandFmt != VIPS_FORMAT_UCHAR)
        return true;
    if (profile.len > 0 && !colours_find(colours, profile, kind, &transform, err))
        return false;
    if (transform == NULL && inks &&
        !colours_find(colours, bytes_of(NULL, 0), kind, &transform, err))
        return false;
    return transform == NULL || transform_image(image, transform, err);
}

/* Lab is relative to D50, as in profiles. libvips' own conversion takes it for D65's. */
static bool lab_to_srgb(VipsImage **image, struct error *err)
{
    VipsImage *out = NULL;

    if (vips_icc_export(*image, &out, "output_profile", "srgb", "intent", VIPS_INTENT_RELATIVE,
                        "depth", 8, NULL) != 0)
        return failed(err);
    image_replace(image, out);
    return true;
}

/* Colours alone to 8 bit sRGB. */
static bool colours_to_srgb_8(VipsImage **image, struct colours *colours, struct error *err)
{
    VipsImage *out = NULL;

    if ((*image)->Type == VIPS_INTERPRETATION_LAB || (*image)->Type == VIPS_INTERPRETATION_LABS)
        return lab_to_srgb(image, err);

    if (!apply_profile(image, colours, err))
        return false;
    if ((*image)->Type != VIPS_INTERPRETATION_sRGB || (*image)->BandFmt != VIPS_FORMAT_UCHAR) {
        if (vips_colourspace(*image, &out, VIPS_INTERPRETATION_sRGB, NULL) != 0)
            return failed(err);
        image_replace(image, out);
    }
    if ((*image)->BandFmt != VIPS_FORMAT_UCHAR) {
        if (vips_cast_uchar(*image, &out, NULL) != 0)
            return failed(err);
        image_replace(image, out);
    }
    return (*image)->Bands >= 3 ||
           error_set(err, ERROR_BAD_IMAGE, "the image has an unknown kind of colours");
}

/* One band of transparency, whose range is that of its numbers. */
static bool alpha_to_8_bits(VipsImage **alpha, struct error *err)
{
    VipsImage *out = NULL;

    if ((*alpha)->BandFmt == VIPS_FORMAT_UCHAR)
        return true;
    /* next to Lab, whose numbers have signs */
    if ((*alpha)->BandFmt == VIPS_FORMAT_SHORT) {
        if (vips_copy(*alpha, &out, "format", VIPS_FORMAT_USHORT, NULL) != 0)
            return failed(err);
        image_replace(alpha, out);
    }
    if ((*alpha)->BandFmt != VIPS_FORMAT_USHORT)
        return error_set(err, ERROR_BAD_IMAGE, "the image has an unknown kind of transparency");
    if (vips_msb(*alpha, &out, NULL) != 0)
        return failed(err);
    image_replace(alpha, out);
    return true;
}

/* libvips would scale the transparency by what it takes for its range, which after some conversions
 * is that of others. */
static bool convert_apart(VipsImage **image, struct channels channels, struct colours *colours,
                          struct error *err)
{
    CLEANUP_IMAGE VipsImage *alpha = NULL;
    VipsImage *out = NULL;

    if (vips_extract_band(*image, &alpha, channels.alpha, NULL) != 0 ||
        vips_extract_band(*image, &out, 0, "n", channels.colours, NULL) != 0)
        return failed(err);
    image_replace(image, out);
    if (!alpha_to_8_bits(&alpha, err) || !colours_to_srgb_8(image, colours, err))
        return false;
    if (vips_bandjoin2(*image, alpha, &out, NULL) != 0)
        return failed(err);
    image_replace(image, out);
    return true;
}

/* 16 bits without a profile: libvips takes the high byte of all bands. */
static bool only_halves(VipsImage *image)
{
    return image->BandFmt == VIPS_FORMAT_USHORT && find_profile(image).len == 0 &&
           (image->Type == VIPS_INTERPRETATION_RGB16 || image->Type == VIPS_INTERPRETATION_GREY16);
}

bool pixels_to_srgb(VipsImage **image, struct channels channels, struct colours *colours,
                    struct error *err)
{
    bool plain = (*image)->Type == VIPS_INTERPRETATION_sRGB &&
                 (*image)->BandFmt == VIPS_FORMAT_UCHAR && find_profile(*image).len == 0;
    bool last = channels.alpha == channels.colours && channels.colours == (*image)->Bands - 1;
    VipsImage *out = NULL;

    if (channels.alpha >= 0 && last && plain)
        return true;
    if (channels.alpha >= 0 && !(last && only_halves(*image)))
        return convert_apart(image, channels, colours, err);
    if (channels.alpha < 0 && (*image)->Bands > channels.colours) {
        if (vips_extract_band(*image, &out, 0, "n", channels.colours, NULL) != 0)
            return failed(err);
        image_replace(image, out);
    }
    return colours_to_srgb_8(image, colours, err);
}

/* `computed` in the place of *image, its numbers in `format` again. */
static bool replace_as(VipsImage **image, VipsImage *computed, VipsBandFormat format,
                       struct error *err)
{
    VipsImage *out = NULL;

    image_replace(image, computed);
    if (vips_cast(*image, &out, format, NULL) != 0)
        return failed(err);
    image_replace(image, out);
    return true;
}

bool pixels_widen(VipsImage **image, int colours, struct error *err)
{
    VipsBandFormat format = (*image)->BandFmt;
    bool wide = format == VIPS_FORMAT_USHORT;
    double black = wide ? 4096 : 16, range = wide ? 56064 : 219, max = wide ? 65535 : 255;
    double factors[4], offsets[4]; /* 0.5, since a cast cuts off */
    VipsImage *out = NULL;

    if ((*image)->Bands > 4)
        return true;
    for (int i = 0; i < (*image)->Bands; i++) {
        factors[i] = i < colours ? max / range : 1;
        offsets[i] = i < colours ? 0.5 - black * max / range : 0;
    }
    if (vips_linear(*image, &out, factors, offsets, (*image)->Bands, NULL) != 0)
        return failed(err);
    return replace_as(image, out, format, err);
}

bool pixels_unpremultiply(VipsImage **image, struct error *err)
{
    VipsBandFormat format = (*image)->BandFmt;
    double max = format == VIPS_FORMAT_UCHAR ? 255 : 65535;
    VipsImage *out = NULL;

    if (vips_unpremultiply(*image, &out, "max_alpha", max, NULL) != 0)
        return failed(err);
    return replace_as(image, out, format, err);
}

bool pixels_flatten(VipsImage **image, uint32_t background, struct error *err)
{
    VipsImage *out = NULL;

    if ((*image)->Bands > 3) {
        VipsArrayDouble *rgb = pixels_background(background);
        int status = vips_flatten(*image, &out, "background", rgb, NULL);

        vips_area_unref(VIPS_AREA(rgb));
        if (status != 0)
            return failed(err);
        image_replace(image, out);
    }
    if ((*image)->Bands > 3) {
        if (vips_extract_band(*image, &out, 0, "n", 3, NULL) != 0)
            return failed(err);
        image_replace(image, out);
    }
    return true;
}

/* Strips are asked for from top to bottom, which is what sequential loaders need. Doing it here
 * instead of by vips_image_copy_memory spares two thread switches, and a cancelled call ends
 * between two strips. */
static bool render_strips(VipsRegion *region, VipsImage *to, const atomic_bool *cancelled,
                          struct error *err)
{
    enum { STRIP_BYTES = 256 * 1024, STRIP_LINES_MIN = 16, STRIP_LINES_MAX = 512 };
    size_t line = pixels_line_size(to);
    int lines = (int)(STRIP_BYTES / line);

    if (lines < STRIP_LINES_MIN)
        lines = STRIP_LINES_MIN;
    /* libvips walks lists of a strip's lines for every line: a million lines of one pixel took
     * 2.5 s in strips of 256 KiB, 0.2 s like this */
    if (lines > STRIP_LINES_MAX)
        lines = STRIP_LINES_MAX;
    for (int top = 0; top < to->Ysize; top += lines) {
        VipsRect rect = {0, top, to->Xsize, VIPS_MIN(lines, to->Ysize - top)};

        if (!image_cancelled_check(cancelled, err))
            return false;
        if (vips_region_prepare(region, &rect) != 0)
            return failed(err);
        const uint8_t *from =
            region->data + (size_t)(top - region->valid.top) * (size_t)region->bpl;
        for (int y = 0; y < rect.height; y++)
            memcpy(to->data + (size_t)(top + y) * line, from + (size_t)y * (size_t)region->bpl,
                   line);
    }
    return true;
}

/* An empty image in memory like `image`, without its metadata. */
static VipsImage *new_memory_like(const VipsImage *image, int width, int height)
{
    VipsImage *memory = vips_image_new_memory();

    vips_image_init_fields(memory, width, height, image->Bands, image->BandFmt, image->Coding,
                           image->Type, 1, 1);
    if (vips_image_write_prepare(memory) == 0)
        return memory;
    g_object_unref(memory);
    return NULL;
}

bool pixels_render(VipsImage **image, const atomic_bool *cancelled, struct error *err)
{
    CLEANUP_IMAGE VipsImage *memory = NULL;
    VipsRegion *region = NULL;
    bool ok;

    if ((*image)->Coding != VIPS_CODING_NONE || vips_image_pio_input(*image) != 0)
        return failed(err);
    memory = new_memory_like(*image, (*image)->Xsize, (*image)->Ysize);
    if (memory == NULL) {
        vips_error_clear();
        return error_oom(err);
    }
    region = vips_region_new(*image);
    if (region == NULL)
        return failed(err);
    ok = render_strips(region, memory, cancelled, err);
    g_object_unref(region);
    if (!ok)
        return false;
    image_replace(image, TAKE_PTR(memory));
    return true;
}

bool pixels_put_on_canvas(VipsImage **image, const struct image_rect *part,
                          const struct image_size *canvas, uint32_t background, struct error *err)
{
    const uint8_t rgb[] = {(uint8_t)(background >> 16), (uint8_t)(background >> 8),
                           (uint8_t)background};
    VipsImage *out = new_memory_like(*image, canvas->width, canvas->height);

    if (out == NULL) {
        vips_error_clear();
        return error_oom(err);
    }
    for (size_t i = 0, len = pixels_line_size(out) * (size_t)canvas->height; i < len; i += 3)
        memcpy(out->data + i, rgb, 3);
    for (int y = part->top; y < part->top + part->height; y++)
        memcpy(out->data + (size_t)y * pixels_line_size(out) + 3 * (size_t)part->left,
               (*image)->data + (size_t)y * pixels_line_size(*image) + 3 * (size_t)part->left,
               3 * (size_t)part->width);
    image_replace(image, out);
    return true;
}
