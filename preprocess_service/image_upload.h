/* An upload with the options of an image, as POST /preprocess and POST /transform take it. The
 * first of them takes `seal`, too. */
#pragma once

#include "http/request.h"
#include "image/image.h"

/* *file is a view of the request's body; `seal` NULL: not an option. Errors of upload_read,
 * upload_options and image_options_check. */
bool image_upload_read(const struct request *req, struct bytes *file, struct image_options *options,
                       bool *seal, struct error *err) NODISCARD;
/* One option by its name, as above; errors of image_options_set. */
bool image_upload_option(struct image_options *image, bool *seal, const char *name,
                         const char *value, struct error *err) NODISCARD;
