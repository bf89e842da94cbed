#include "image_upload.h"

#include "http/upload.h"

#include <string.h>

struct options {
    struct image_options *image;
    bool *seal;
};

static bool set_option(void *ctx, const char *name, const char *value, struct error *err)
{
    const struct options *options = ctx;

    return image_upload_option(options->image, options->seal, name, value, err);
}

bool image_upload_option(struct image_options *image, bool *seal, const char *name,
                         const char *value, struct error *err)
{
    if (seal == NULL || strcmp(name, "seal") != 0)
        return image_options_set(image, name, value, err);
    *seal = strcmp(value, "1") == 0;
    return *seal || strcmp(value, "0") == 0 ||
           error_set(err, ERROR_BAD_REQUEST, "seal must be 0 or 1");
}

bool image_upload_read(const struct request *req, struct bytes *file, struct image_options *options,
                       bool *seal, struct error *err)
{
    struct options all = {.image = options, .seal = seal};
    struct upload upload;

    *options = image_options_default();
    if (!upload_read(req, &upload, err) || !upload_options(req, &upload, set_option, &all, err) ||
        !image_options_check(options, err))
        return false;
    *file = upload.file;
    return true;
}
