/* The allow-list: a format found by its magic bytes is opened by exactly its own loader.
 * JPEG is not here: see jpeg_load.c. */
#include "image/private.h"

static const struct {
    const char *loader;
    VipsFailOn fail_on;
} loaders[] = {
    /* libpng also warns of odd but harmless metadata. */
    [IMAGE_PNG] = {"pngload_buffer", VIPS_FAIL_ON_ERROR},
    [IMAGE_WEBP] = {"webpload_buffer", VIPS_FAIL_ON_WARNING},
    [IMAGE_GIF] = {"gifload_buffer", VIPS_FAIL_ON_ERROR},
    /* libtiff warns of every private tag. */
    [IMAGE_TIFF] = {"tiffload_buffer", VIPS_FAIL_ON_ERROR},
    [IMAGE_HEIC] = {"heifload_buffer", VIPS_FAIL_ON_WARNING},
    [IMAGE_AVIF] = {"heifload_buffer", VIPS_FAIL_ON_WARNING},
};

bool image_load(struct bytes data, enum image_format format, VipsImage **ret, struct error *err)
{
    VipsOperation *operation;
    VipsBlob *blob;
    bool ok;

    if (!image_vips_start(err))
        return false;
    operation = vips_operation_new(loaders[format].loader);
    if (operation == NULL) {
        vips_error_clear();
        return error_set(err, ERROR_UNSUPPORTED_MEDIA, "this server cannot read %s",
                         image_format_name(format));
    }
    blob = vips_blob_new(NULL, data.data, data.len);
    g_object_set(operation, "buffer", blob, "access", VIPS_ACCESS_SEQUENTIAL, "fail_on",
                 loaders[format].fail_on, NULL);
    vips_area_unref(VIPS_AREA(blob));

    ok = vips_cache_operation_buildp(&operation) == 0;
    if (ok)
        g_object_get(operation, "out", ret, NULL);
    else
        image_vips_failed(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
    vips_object_unref_outputs(VIPS_OBJECT(operation));
    g_object_unref(operation);
    return ok;
}
