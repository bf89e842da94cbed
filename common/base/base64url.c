#include "base/base64url.h"

#include "base/strings.h"

bool base64url_encode(struct bytes data, struct buffer *out, struct error *err)
{
    const size_t start = out->len;

    if (!string_base64_encode(data, out, err))
        return false;
    while (out->len > start && out->data[out->len - 1] == '=')
        out->len--;
    for (size_t i = start; i < out->len; i++)
        if (out->data[i] == '+')
            out->data[i] = '-';
        else if (out->data[i] == '/')
            out->data[i] = '_';
    return true;
}

/* 0..63, or -1. */
static int digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static bool malformed(struct error *err)
{
    return error_set(err, ERROR_BAD_REQUEST, "not base64url");
}

bool base64url_decode(struct bytes text, struct buffer *out, struct error *err)
{
    unsigned bits = 0, held = 0;

    if (text.len % 4 == 1)
        return malformed(err);
    if (!buffer_reserve(out, text.len / 4 * 3 + 2, err))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int value = digit(text.data[i]);
        if (value < 0)
            return malformed(err);
        held = (held << 6 | (unsigned)value) & 0xFFF;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out->data[out->len++] = (uint8_t)(held >> bits);
        }
    }
    return (held & ((1U << bits) - 1)) == 0 || malformed(err);
}
