/* Borrowed views (`struct bytes`) and growable, bounded buffers (`struct buffer`).
 * No buffer is without a maximum. Not thread-safe. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* A view: borrowed, never freed through this type. */
struct bytes {
    const uint8_t *data;
    size_t len;
};

/* An owned buffer of at most `max` bytes. Zero-initialise, or BUFFER_MAX(n). */
struct buffer {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;
};

#define BUFFER_MAX(n)                                                                              \
    {                                                                                              \
        .max = (n)                                                                                 \
    }

static inline struct bytes bytes_of(const void *data, size_t len)
{
    return (struct bytes){.data = data, .len = len};
}

struct bytes bytes_from_str(const char *s);
bool bytes_equal(struct bytes a, struct bytes b);
bool bytes_starts_with(struct bytes b, const void *prefix, size_t prefix_len);

static inline struct bytes buffer_view(const struct buffer *b)
{
    return (struct bytes){.data = b->data, .len = b->len};
}

/* Make room for `more` bytes past `len`. ERROR_TOO_LARGE over `max`, or out of memory. */
bool buffer_reserve(struct buffer *b, size_t more, struct error *err) NODISCARD;
bool buffer_append(struct buffer *b, const void *data, size_t len, struct error *err) NODISCARD;
bool buffer_append_str(struct buffer *b, const char *s, struct error *err) NODISCARD;
bool buffer_printf(struct buffer *b, struct error *err, const char *fmt, ...) NODISCARD
    PRINTF_LIKE(3, 4);
/* The contents as a C string (a NUL is appended but not counted); NULL if it does not fit. */
const char *buffer_cstr(struct buffer *b, struct error *err) NODISCARD;
void buffer_done(struct buffer *b);
