#include "objects/object_name.h"

#include <string.h>

const enum image_format object_formats[OBJECT_FORMATS] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP,
                                                          IMAGE_AVIF};

bool content_id(const struct image_options *options, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err)
{
    char text[IMAGE_OPTIONS_TEXT_MAX];

    image_options_text(options, text);
    const struct bytes parts[] = {bytes_from_str(text), original};
    return string_sha256_hex(parts, ARRAY_SIZE(parts), out, err);
}

bool object_name_parse(const char *text, struct object_name *ret)
{
    if (strlen(text) < SHA256_HEX_LEN)
        return false;
    memcpy(ret->id, text, SHA256_HEX_LEN);
    ret->id[SHA256_HEX_LEN] = '\0';
    ret->format = IMAGE_UNKNOWN;
    const char *rest = text + SHA256_HEX_LEN;
    if (*rest == '.')
        ret->format = image_format_of_extension(rest + 1);
    return string_is_sha256_hex(ret->id) && (*rest == '\0' || ret->format != IMAGE_UNKNOWN);
}

bool object_key(const char *prefix, const char *id, enum image_format format, char *out,
                size_t size, struct error *err)
{
    int n = snprintf(out, size, "%s%s.%s", prefix, id, image_format_extension(format));

    return (n >= 0 && (size_t)n < size) ||
           error_set(err, ERROR_INTERNAL, "the storage prefix is too long");
}
