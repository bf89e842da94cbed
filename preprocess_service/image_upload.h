/* An upload with the options of an image, as POST /preprocess and POST /transform take it. */
#pragma once

#include "http/request.h"
#include "image/image.h"

/* *file is a view of the request's body. Errors of upload_read, upload_options and
 * image_options_check. */
bool image_upload_read(const struct request *req, struct bytes *file, struct image_options *options,
                       struct error *err) NODISCARD;
