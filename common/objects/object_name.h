/* How our objects are called: "<prefix><id>.<ext>", or "<prefix>sealed/<id>.<ext>", where id is 64
 * lower-case hex digits and ext that of an output format; a result is the object's key + ".json".
 * Shared by both services. Pure. */
#pragma once

#include "base/strings.h"
#include "image/image.h"

/* The id: what the object was made from, as lower-case hex SHA-256 over image_options_text and the
 * original bytes. The same upload with the same options is the same object, so that retries and
 * duplicates are harmless. A sealed object is one owner's: his name is in it, too (NULL: not
 * sealed). */
bool content_id(const struct image_options *options, const char *sealed_for, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err) NODISCARD;

struct object_name {
    char id[SHA256_HEX_LEN + 1];
    enum image_format format; /* IMAGE_UNKNOWN: an id without extension, any of them */
    bool sealed;
};

/* The formats an object may have, in the order they are looked for. */
enum { OBJECT_FORMATS = 4 };
extern const enum image_format object_formats[OBJECT_FORMATS];

/* Parse "<id>" or "<id>.<ext>", or either behind "sealed/". False for another text. */
bool object_name_parse(const char *text, struct object_name *ret) NODISCARD;
/* What a client's "<id>" or "<id>.<ext>" may stand for: *ret is number `i` of it, from 0, of which
 * the sealed ones come last. False behind the last. */
bool object_name_candidate(const struct object_name *asked, size_t i, struct object_name *ret);

/* The key of an object whose format is known. ERROR_INTERNAL when it does not fit into `size`
 * bytes. */
bool object_key(const char *prefix, const struct object_name *name, char *out, size_t size,
                struct error *err) NODISCARD;
