#include "base/strings.h"

#include "base/utf8.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

static const char hex_digits[] = "0123456789abcdef";

void string_hex(struct bytes data, char *out)
{
    for (size_t i = 0; i < data.len; i++) {
        out[2 * i] = hex_digits[data.data[i] >> 4];
        out[2 * i + 1] = hex_digits[data.data[i] & 15];
    }
    out[2 * data.len] = '\0';
}

bool string_sha256_hex(const struct bytes *parts, size_t count, char out[SHA256_HEX_LEN + 1],
                       struct error *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t digest[SHA256_SIZE];

    bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < count; i++)
        ok = EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) == 1;
    ok = ok && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return error_set(err, ERROR_INTERNAL, "SHA-256 failed");
    string_hex(bytes_of(digest, sizeof(digest)), out);
    return true;
}

bool string_is_sha256_hex(const char *s)
{
    return strlen(s) == SHA256_HEX_LEN && strspn(s, hex_digits) == SHA256_HEX_LEN;
}

bool string_to_int64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
    const char *digits = *s == '-' ? s + 1 : s;
    char *end;

    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits))
        return false;
    errno = 0;
    long long value = strtoll(s, &end, 10);
    if (errno != 0 || *end != '\0' || value < min || value > max)
        return false;
    *ret = value;
    return true;
}

bool string_base64_encode(struct bytes data, struct buffer *out, struct error *err)
{
    if (data.len > INT32_MAX / 2)
        return error_set(err, ERROR_TOO_LARGE, "too long for base64");
    size_t len = (data.len + 2) / 3 * 4;
    if (!buffer_reserve(out, len + 1, err)) /* EVP_EncodeBlock adds a NUL */
        return false;
    out->len += (size_t)EVP_EncodeBlock(out->data + out->len, data.data, (int)data.len);
    return true;
}

bool string_base64_decode(const char *text, struct buffer *out, struct error *err)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = strlen(text);
    size_t digits = strspn(text, alphabet);
    size_t padding = len - digits;

    if (len % 4 != 0 || padding > 2 || strspn(text + digits, "=") != padding || len > INT32_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "not valid base64");
    if (len == 0)
        return true;
    if (!buffer_reserve(out, len / 4 * 3, err))
        return false;
    int n = EVP_DecodeBlock(out->data + out->len, (const unsigned char *)text, (int)len);
    if (n < 0)
        return error_set(err, ERROR_BAD_REQUEST, "not valid base64");
    out->len += (size_t)n - padding;
    return true;
}

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

static bool is_unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~", c) != NULL);
}

bool string_percent_encode(const char *s, const char *also_safe, struct buffer *out,
                           struct error *err)
{
    for (const unsigned char *p = (const unsigned char *)s; *p != '\0'; p++) {
        char code[3] = {'%', "0123456789ABCDEF"[*p >> 4], "0123456789ABCDEF"[*p & 15]};
        bool safe = is_unreserved(*p) || strchr(also_safe, *p) != NULL;
        if (!buffer_append(out, safe ? (const void *)p : code, safe ? 1 : 3, err))
            return false;
    }
    return true;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool string_percent_decode(const char *s, struct buffer *out, struct error *err)
{
    for (const char *p = s; *p != '\0'; p++) {
        char c = *p;
        if (c == '%') {
            int high = hex_value(p[1]);
            int low = high < 0 ? -1 : hex_value(p[2]);
            if (low < 0 || high * 16 + low == 0)
                return error_set(err, ERROR_BAD_REQUEST, "invalid percent-encoding");
            c = (char)(high * 16 + low);
            p += 2;
        }
        if (!buffer_append(out, &c, 1, err))
            return false;
    }
    return true;
}

bool string_is_utf8(struct bytes text)
{
    return utf8_is_valid(text.data, text.len);
}

void utf8_copy(char *out, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (len >= size)
        for (len = size - 1; len > 0 && ((unsigned char)text[len] & 0xC0) == 0x80;)
            len--;
    memcpy(out, text, len);
    out[len] = '\0';
}

bool string_starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool string_ends_with(const char *s, const char *suffix)
{
    size_t len = strlen(s);
    size_t suffix_len = strlen(suffix);

    return len >= suffix_len && strcmp(s + len - suffix_len, suffix) == 0;
}

bool string_list_has(const char *list, const char *text, bool ignore_case)
{
    size_t len = strlen(text);

    for (const char *p = list; *p != '\0'; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", ");
        if (n == len && n > 0 && (ignore_case ? strncasecmp : strncmp)(p, text, n) == 0)
            return true;
        p += n;
    }
    return false;
}

bool string_equal_constant_time(const char *a, const char *b)
{
    size_t len = strlen(a);
    unsigned char difference = len != strlen(b);

    for (size_t i = 0; i < len && !(difference && b[i] == '\0'); i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

bool string_uuid(char out[UUID_LEN + 1])
{
    static const size_t groups[] = {8, 4, 4, 4, 12};
    uint8_t r[16];
    char hex[33];
    const char *from = hex;

    if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
        return false;
    r[6] = (uint8_t)((r[6] & 0x0F) | 0x40);
    r[8] = (uint8_t)((r[8] & 0x3F) | 0x80);
    string_hex(bytes_of(r, sizeof(r)), hex);
    for (size_t i = 0; i < ARRAY_SIZE(groups); i++) { /* every request has one: no snprintf */
        memcpy(out, from, groups[i]);
        from += groups[i];
        out += groups[i];
        *out++ = '-';
    }
    out[-1] = '\0';
    return true;
}

static bool is_loopback(const char *host, size_t len)
{
    char name[64];
    struct in_addr v4;

    if (len == 0 || len >= sizeof(name))
        return false;
    memcpy(name, host, len);
    name[len] = '\0';
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
           (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

bool url_is_safe(const char *url)
{
    bool https = string_starts_with(url, "https://");
    const char *host = url + strlen(https ? "https://" : "http://");

    if ((!https && !string_starts_with(url, "http://")) || strpbrk(url, " \t\"<>\\^`{|}#") != NULL)
        return false;
    size_t authority = strcspn(host, "/?");
    size_t len = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?");
    if (authority == 0 || len > authority || memchr(host, '@', authority) != NULL ||
        (host[len] != '\0' && strchr(":/?", host[len]) == NULL))
        return false;
    return len > 0 && (https || is_loopback(host, len));
}
