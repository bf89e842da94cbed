/* Instead of the HTTP client: replies that come out of the fuzzer's input, in the form that the
 * client gives them. One reply: "STATUS", "name: value" lines, an empty line, the body; the next
 * one after a line "----". The last one is given again and again; "" instead of a status is no
 * connection. For one source file of a program; the linker then leaves client/http_client.c out. */
#pragma once

#include "client/http_client.h"
#include "fuzz.h"

#include <ctype.h>

struct replies {
    struct bytes left, last;
    long status; /* of the last reply */
    size_t calls;
};

static struct replies replies;

/* As client.c's on_header has it. */
static void add_line(struct http_reply *reply, struct bytes line, unsigned *count)
{
    const uint8_t *colon = line.len > 0 ? memchr(line.data, ':', line.len) : NULL;
    struct error err;

    while (line.len > 0 && strchr("\r\n \t", line.data[line.len - 1]) != NULL)
        line.len--;
    if (colon == NULL || colon == line.data || colon >= line.data + line.len ||
        *count == HTTP_REPLY_HEADERS_MAX)
        return;
    (*count)++;
    for (const uint8_t *p = line.data; p < colon; p++) {
        char c = (char)tolower(*p);
        FUZZ_CHECK(buffer_append(&reply->headers, &c, 1, &err));
    }
    const uint8_t *value = colon + 1, *end = line.data + line.len;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    FUZZ_CHECK(buffer_append_str(&reply->headers, ": ", &err) &&
               buffer_append(&reply->headers, value, (size_t)(end - value), &err) &&
               buffer_append_str(&reply->headers, "\n", &err));
}

bool http_client_call(struct http_client *client, const struct http_call *call,
                      struct http_reply *ret, struct error *err)
{
    struct http_reply reply = {.body = {.max = call->max_reply_bytes}, .headers = {.max = 1 << 20}};
    int64_t status = 0;
    unsigned count = 0;

    FUZZ_CHECK(string_starts_with(call->url, "http"));
    replies.calls++;
    if (replies.left.len > 0)
        replies.last = fuzz_until(&replies.left, "\n----\n");
    struct bytes text = replies.last;
    CLEANUP_FREE char *first = fuzz_line(&text);
    replies.status = 0;
    if (!string_to_int64(first, 200, 599, &status))
        return error_set(err, ERROR_UNAVAILABLE, "no connection");
    replies.status = status;
    while (text.len > 0) {
        struct bytes line = fuzz_until(&text, "\n");
        if (line.len == 0)
            break;
        add_line(&reply, line, &count);
    }
    reply.status = (long)status;
    if (strcmp(call->method, "HEAD") == 0 || buffer_append(&reply.body, text.data, text.len, err)) {
        *ret = reply;
        return true;
    }
    http_reply_done(&reply);
    return false;
}

struct http_client *http_client_new(const struct http_client_options *options, struct error *err)
{
    return calloc(1, 1);
}

void http_client_free(struct http_client *client)
{
    free(client);
}

static inline void replies_begin(struct bytes in)
{
    replies = (struct replies){.left = in};
}
