#include "base/error.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <string.h>

static const struct {
    const char *slug;
    int status;
    const char *title;
} table[] = {
#define X(symbol, slug, status, title) [symbol] = {slug, status, title},
    ERROR_TABLE(X)
#undef X
};

/* A message that was cut does not end in the middle of a UTF-8 character. */
static void drop_partial_character(struct error *err)
{
    size_t len = strlen(err->message);
    size_t tail = 0; /* continuation bytes at the end */

    if (len + 1 < sizeof(err->message))
        return;
    while (tail < 3 && ((unsigned char)err->message[len - 1 - tail] & 0xC0) == 0x80)
        tail++;
    unsigned char lead = (unsigned char)err->message[len - 1 - tail];
    size_t needed = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (needed > tail)
        err->message[len - 1 - tail] = '\0';
}

/* Messages go into JSON, and may quote what a client sent, or cut it. */
static void make_utf8(struct error *err)
{
    drop_partial_character(err);
    if (utf8_is_valid((const uint8_t *)err->message, strlen(err->message)))
        return;
    for (char *p = err->message; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
}

bool error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
    va_list args;

    err->code = code;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    make_utf8(err);
    return false;
}

bool error_wrap(struct error *err, const char *fmt, ...)
{
    char old[sizeof(err->message)];
    va_list args;

    memcpy(old, err->message, sizeof(old));
    va_start(args, fmt);
    int n = vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    size_t used = n > 0 ? (size_t)n : 0;
    if (used + 2 < sizeof(err->message)) {
        memcpy(err->message + used, ": ", 2);
        snprintf(err->message + used + 2, sizeof(err->message) - used - 2, "%.*s",
                 (int)(sizeof(err->message) - used - 3), old);
    }
    make_utf8(err);
    return false;
}

bool error_oom(struct error *err)
{
    return error_set(err, ERROR_OVERLOADED, "out of memory");
}

const char *error_slug(enum error_code code)
{
    return table[code].slug;
}

const char *error_title(enum error_code code)
{
    return table[code].title;
}

int error_http_status(enum error_code code)
{
    return table[code].status;
}

bool error_is_passing(enum error_code code)
{
    return table[code].status == 503;
}

const char *error_public_detail(const struct error *err)
{
    switch (err->code) {
    case ERROR_INTERNAL:
    case ERROR_CONFIG:
        return "An unexpected failure; the service's log has the details under this request_id.";
    case ERROR_OVERLOADED:
        return "The service is busy. Nothing was done; repeat the request later.";
    case ERROR_DEADLINE:
        return "The request took too long. Nothing was promised; repeating it is safe.";
    case ERROR_UNAVAILABLE:
        return "Storage, events or a database are not available now. Repeat the request; that is "
               "safe.";
    case ERROR_SHUTTING_DOWN:
        return "This instance is shutting down. Repeat the request.";
    case ERROR_NONE:
    case ERROR_BAD_REQUEST:
    case ERROR_UNAUTHORIZED:
    case ERROR_FORBIDDEN:
    case ERROR_NOT_FOUND:
    case ERROR_METHOD_NOT_ALLOWED:
    case ERROR_CONFLICT:
    case ERROR_TOO_SLOW:
    case ERROR_TOO_LARGE:
    case ERROR_UNSUPPORTED_MEDIA:
    case ERROR_RANGE:
    case ERROR_BAD_IMAGE:
    case ERROR_NOT_IMPLEMENTED:
    case ERROR_TOO_MANY:
    case ERROR_HEADERS_TOO_LARGE:
        break;
    }
    return err->message;
}
