#include "base/bytes.h"

#include <stdarg.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

struct bytes bytes_from_str(const char *s)
{
    return bytes_of(s, strlen(s));
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool bytes_starts_with(struct bytes b, const void *prefix, size_t prefix_len)
{
    return b.len >= prefix_len &&
           bytes_equal(bytes_of(b.data, prefix_len), bytes_of(prefix, prefix_len));
}

bool buffer_reserve(struct buffer *b, size_t more, struct error *err)
{
    if (b->len > b->max || more > b->max - b->len)
        return error_set(err, ERROR_TOO_LARGE, "more than %zu bytes", b->max);
    size_t need = b->len + more;
    if (need <= b->cap)
        return true;
    /* the first time just what is asked for, which is often all there will be */
    size_t cap = b->cap > 0 ? b->cap : need > FIRST_CAPACITY ? need : FIRST_CAPACITY;
    while (cap < need)
        cap = cap > b->max / 2 ? b->max : cap * 2;
    if (cap > b->max)
        cap = b->max;
    uint8_t *data = realloc(b->data, cap);
    if (data == NULL)
        return error_oom(err);
    b->data = data;
    b->cap = cap;
    return true;
}

bool buffer_append(struct buffer *b, const void *data, size_t len, struct error *err)
{
    if (len == 0)
        return true;
    if (!buffer_reserve(b, len, err))
        return false;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return true;
}

bool buffer_append_str(struct buffer *b, const char *s, struct error *err)
{
    return buffer_append(b, s, strlen(s), err);
}

bool buffer_printf(struct buffer *b, struct error *err, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        return error_set(err, ERROR_INTERNAL, "formatting failed");
    size_t len = (size_t)n;
    /* vsnprintf writes a NUL past the text: reserve it, do not count it */
    size_t max = b->max;
    b->max = max < SIZE_MAX ? max + 1 : max;
    bool ok = buffer_reserve(b, len + 1, err);
    b->max = max;
    if (!ok)
        return err->code == ERROR_TOO_LARGE
                   ? error_set(err, ERROR_TOO_LARGE, "more than %zu bytes", max)
                   : false;
    va_start(args, fmt);
    vsnprintf((char *)b->data + b->len, len + 1, fmt, args);
    va_end(args);
    b->len += len;
    return true;
}

const char *buffer_cstr(struct buffer *b, struct error *err)
{
    return buffer_printf(b, err, "%s", "") ? (const char *)b->data : NULL;
}

void buffer_done(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}
