/* The id of a result: what it was made from. The same upload with the same options is the same
 * object, so that retries and duplicates are harmless. */
#ifndef DARKROOM_OBJECTS_CONTENT_ID_H
#define DARKROOM_OBJECTS_CONTENT_ID_H

#include "base/strings.h"
#include "image/image.h"

/* Lower-case hex SHA-256 over image_options_text and the original bytes. */
bool content_id(const struct image_options *options, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err) NODISCARD;

#endif
