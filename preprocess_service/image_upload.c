#include "image_upload.h"

#include "http/upload.h"

static bool set_option(void *options, const char *name, const char *value, struct error *err)
{
    return image_options_set(options, name, value, err);
}

bool image_upload_read(const struct request *req, struct bytes *file, struct image_options *options,
                       struct error *err)
{
    struct upload upload;

    *options = image_options_default();
    if (!upload_read(req, &upload, err) ||
        !upload_options(req, &upload, set_option, options, err) ||
        !image_options_check(options, err))
        return false;
    *file = upload.file;
    return true;
}
