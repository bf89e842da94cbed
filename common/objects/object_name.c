#include "objects/object_name.h"

#include "store/object.h"

#include <string.h>

const enum image_format object_formats[OBJECT_FORMATS] = {IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP,
                                                          IMAGE_AVIF};

bool content_id(const struct image_options *options, const char *sealed_for, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err)
{
    char text[IMAGE_OPTIONS_TEXT_MAX];

    image_options_text(options, text);
    const struct bytes parts[] = {
        bytes_from_str(text), /* what follows is no picture's beginning */
        bytes_from_str(sealed_for != NULL ? "sealed for " : ""),
        bytes_from_str(sealed_for != NULL ? sealed_for : ""),
        bytes_from_str(sealed_for != NULL ? "\n" : ""),
        original,
    };
    return string_sha256_hex(parts, ARRAY_SIZE(parts), out, err);
}

bool object_name_parse(const char *text, struct object_name *ret)
{
    ret->sealed = string_starts_with(text, STORE_SEALED);
    text += ret->sealed ? strlen(STORE_SEALED) : 0;
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

bool object_name_candidate(const struct object_name *asked, size_t i, struct object_name *ret)
{
    bool any = asked->format == IMAGE_UNKNOWN;
    size_t formats = any ? OBJECT_FORMATS : 1;

    *ret = *asked;
    ret->format = any ? object_formats[i % formats] : asked->format;
    ret->sealed = asked->sealed || i >= formats;
    return i < formats * (asked->sealed ? 1 : 2);
}

bool object_key(const char *prefix, const struct object_name *name, char *out, size_t size,
                struct error *err)
{
    int n = snprintf(out, size, "%s%s%s.%s", prefix, name->sealed ? STORE_SEALED : "", name->id,
                     image_format_extension(name->format));

    return (n >= 0 && (size_t)n < size) ||
           error_set(err, ERROR_INTERNAL, "the storage prefix is too long");
}
