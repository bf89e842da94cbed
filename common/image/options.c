#include "base/strings.h"
#include "image/ops/operations.h"

#include <string.h>

enum { DEFAULT_SIZE = 256 };

static const char *const fit_names[] = {
    [IMAGE_COVER] = "cover",   [IMAGE_CONTAIN] = "contain", [IMAGE_FILL] = "fill",
    [IMAGE_INSIDE] = "inside", [IMAGE_NONE] = "none",
};

struct image_options image_options_default(void)
{
    return (struct image_options){.fit = IMAGE_COVER, .format = IMAGE_JPEG, .background = 0xffffff};
}

/* With the default a classifier must see hardly more than the original. JPEG's 90 moves the
 * probability of a photograph's class by 0.026 on average without chroma subsampling and by 0.039
 * with it, 94 by 0.015 (tests/integration/test_photos.py prints it). */
int image_options_quality(const struct image_options *options)
{
    if (options->quality != 0)
        return options->quality;
    return options->format == IMAGE_JPEG ? 94 : 90;
}

static bool set_number(const char *name, const char *value, int max, int *ret, struct error *err)
{
    int64_t number;

    if (!string_to_int64(value, 1, max, &number))
        return error_set(err, ERROR_BAD_REQUEST, "%s: must be a whole number from 1 to %d", name,
                         max);
    *ret = (int)number;
    return true;
}

static bool set_fit(const char *value, enum image_fit *ret, struct error *err)
{
    for (size_t i = 0; i < ARRAY_SIZE(fit_names); i++) {
        if (strcmp(value, fit_names[i]) == 0) {
            *ret = (enum image_fit)i;
            return true;
        }
    }
    return error_set(err, ERROR_BAD_REQUEST, "fit: must be cover, contain, fill, inside or none");
}

static bool set_format(const char *value, enum image_format *ret, struct error *err)
{
    static const enum image_format outputs[] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_AVIF};

    if (strcmp(value, "jpg") == 0) /* as files are named */
        value = image_format_name(IMAGE_JPEG);
    for (size_t i = 0; i < ARRAY_SIZE(outputs); i++) {
        if (strcmp(value, image_format_name(outputs[i])) == 0) {
            *ret = outputs[i];
            return true;
        }
    }
    return error_set(err, ERROR_BAD_REQUEST, "format: must be jpeg, png, webp or avif");
}

static bool set_background(const char *value, uint32_t *ret, struct error *err)
{
    if (strlen(value) != 6 || strspn(value, "0123456789abcdefABCDEF") != 6)
        return error_set(err, ERROR_BAD_REQUEST,
                         "background: must be six hexadecimal digits (RRGGBB)");
    *ret = (uint32_t)strtoul(value, NULL, 16);
    return true;
}

bool image_options_set(struct image_options *options, const char *name, const char *value,
                       struct error *err)
{
    if (strcmp(name, "width") == 0)
        return set_number(name, value, IMAGE_DIMENSION_MAX, &options->width, err);
    if (strcmp(name, "height") == 0)
        return set_number(name, value, IMAGE_DIMENSION_MAX, &options->height, err);
    if (strcmp(name, "quality") == 0)
        return set_number(name, value, 100, &options->quality, err);
    if (strcmp(name, "fit") == 0)
        return set_fit(value, &options->fit, err);
    if (strcmp(name, "format") == 0)
        return set_format(value, &options->format, err);
    if (strcmp(name, "background") == 0)
        return set_background(value, &options->background, err);
    return operations_set(options, name, value, err);
}

/* What the encoders can write: libjpeg's own limit, the width of WebP's fields, libvips' for AVIF.
 */
static int dimension_max(enum image_format format)
{
    switch (format) {
    case IMAGE_JPEG:
        return 65500;
    case IMAGE_WEBP:
        return 16383;
    case IMAGE_AVIF:
        return 16384;
    case IMAGE_PNG:
    case IMAGE_GIF:
    case IMAGE_TIFF:
    case IMAGE_HEIC:
    case IMAGE_UNKNOWN:
        break;
    }
    return IMAGE_DIMENSION_MAX;
}

bool image_output_check(const struct image_options *asked, int width, int height, struct error *err)
{
    const char *format = image_format_name(asked->format);
    int side = dimension_max(asked->format);
    int pixels =
        asked->format == IMAGE_AVIF ? IMAGE_OUTPUT_PIXELS_MAX_AVIF : IMAGE_OUTPUT_PIXELS_MAX;
    const char *both = asked->fit == IMAGE_NONE ? "fit"
                       : asked->width == 0      ? "height"
                       : asked->height == 0     ? "width"
                                                : NULL;

    if (width > side)
        return error_set(err, ERROR_BAD_REQUEST, "%s: a %s image is at most %d wide, not %d",
                         both != NULL ? both : "width", format, side, width);
    if (height > side)
        return error_set(err, ERROR_BAD_REQUEST, "%s: a %s image is at most %d high, not %d",
                         both != NULL ? both : "height", format, side, height);
    if ((int64_t)width * height > pixels)
        return error_set(err, ERROR_BAD_REQUEST,
                         "%s: the result would be %d x %d, and %s has at most %d pixels",
                         both != NULL ? both : "width, height", width, height, format, pixels);
    return true;
}

bool image_options_check(const struct image_options *options, struct error *err)
{
    if (options->fit == IMAGE_NONE && (options->width != 0 || options->height != 0))
        return error_set(err, ERROR_BAD_REQUEST, "%s: fit=none keeps the size; leave it out",
                         options->width != 0 ? "width" : "height");
    /* an unset dimension is at least 1, and checked again when it is known */
    return image_output_check(options, VIPS_MAX(options->width, 1), VIPS_MAX(options->height, 1),
                              err);
}

void image_options_text(const struct image_options *options, char out[IMAGE_OPTIONS_TEXT_MAX])
{
    bool unset = options->width == 0 && options->height == 0;

    snprintf(out, IMAGE_OPTIONS_TEXT_MAX,
             "darkroom-5\nwidth=%d\nheight=%d\nfit=%s\nformat=%s\nquality=%d\nbackground=%06x\n",
             unset ? DEFAULT_SIZE : options->width, unset ? DEFAULT_SIZE : options->height,
             fit_names[options->fit], image_format_name(options->format),
             image_options_quality(options), (unsigned)(options->background & 0xffffff));
    operations_text(options, out, IMAGE_OPTIONS_TEXT_MAX);
}
