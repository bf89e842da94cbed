#include "objects/content_id.h"

bool content_id(const struct image_options *options, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err)
{
    char text[IMAGE_OPTIONS_TEXT_MAX];

    image_options_text(options, text);
    const struct bytes parts[] = {bytes_from_str(text), original};
    return string_sha256_hex(parts, ARRAY_SIZE(parts), out, err);
}
