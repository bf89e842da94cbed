#include "client/http_client.h"

#include <string.h>

bool http_reply_header(const struct http_reply *reply, const char *name, char *out, size_t size)
{
    const char *p = reply->headers.len > 0 ? (const char *)reply->headers.data : "";
    const char *end = p + reply->headers.len;
    size_t name_len = strlen(name);

    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)(newline - p);
        if (len >= name_len + 2 && strncasecmp(p, name, name_len) == 0 && p[name_len] == ':') {
            const char *value = p + name_len + 2;
            size_t value_len = (size_t)(newline - value);
            if (value_len >= size)
                return false;
            memcpy(out, value, value_len);
            out[value_len] = '\0';
            return true;
        }
        p = newline + 1;
    }
    return false;
}

void http_reply_done(struct http_reply *reply)
{
    buffer_done(&reply->body);
    buffer_done(&reply->headers);
}
