/* How our objects are called: "<prefix><id>.<ext>", where id is 64 lower-case hex digits and ext
 * that of an output format; a result is the object's key + ".json". Shared by both services. Pure.
 */
#pragma once

#include "base/strings.h"
#include "image/image.h"

/* The id: what the object was made from, as lower-case hex SHA-256 over image_options_text and the
 * original bytes. The same upload with the same options is the same object, so that retries and
 * duplicates are harmless. */
bool content_id(const struct image_options *options, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err) NODISCARD;

struct object_name {
    char id[SHA256_HEX_LEN + 1];
    enum image_format format; /* IMAGE_UNKNOWN: an id without extension, any of them */
};

/* The formats an object may have, in the order they are looked for. */
enum { OBJECT_FORMATS = 4 };
extern const enum image_format object_formats[OBJECT_FORMATS];

/* Parse "<id>" or "<id>.<ext>". False when it is neither. */
bool object_name_parse(const char *text, struct object_name *ret) NODISCARD;

/* The key of an id in one format. ERROR_INTERNAL when it does not fit into `size` bytes. */
bool object_key(const char *prefix, const char *id, enum image_format format, char *out,
                size_t size, struct error *err) NODISCARD;
