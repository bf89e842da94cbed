#include "http/reply.h"

#include "base/strings.h"

#include <stdarg.h>
#include <string.h>

enum {
    REPLY_BODY_MAX = 256 * 1024 * 1024,
    RETRY_AFTER_S = 1,
};

struct reply reply_empty(int status)
{
    return (struct reply){.status = status, .body = BUFFER_MAX(REPLY_BODY_MAX)};
}

struct reply reply_buffer(int status, const char *content_type, struct buffer *body)
{
    struct reply reply = reply_empty(status);

    reply.content_type = content_type;
    reply.body = *body;
    *body = (struct buffer){0};
    return reply;
}

struct reply reply_text(int status, const char *content_type, const char *text)
{
    struct error err = {0};
    struct buffer body = BUFFER_MAX(REPLY_BODY_MAX);

    if (!buffer_append_str(&body, text, &err))
        return reply_error(&err);
    return reply_buffer(status, content_type, &body);
}

struct reply reply_json(int status, json_t *json)
{
    struct error err = {0};

    char *text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (text == NULL) {
        error_oom(&err);
        return reply_error(&err);
    }
    size_t len = strlen(text);
    text[len] = '\n'; /* kind to terminals; the body is counted, not NUL-terminated */
    struct buffer body = {
        .data = (uint8_t *)text, .len = len + 1, .cap = len + 1, .max = REPLY_BODY_MAX};
    return reply_buffer(status, "application/json", &body);
}

struct reply reply_private(int status, json_t *json)
{
    struct reply reply = reply_json(status, json);

    reply_add_header(&reply, "Cache-Control", "no-store");
    return reply;
}

struct reply reply_error(const struct error *err)
{
    struct reply reply = reply_empty(error_http_status(err->code));

    reply.content_type = error_form_content_type(ERROR_FORM_PROBLEM);
    reply.error = *err;
    if (reply.status == 503)
        reply_add_header(&reply, "Retry-After", "%d", RETRY_AFTER_S);
    return reply;
}

struct reply reply_error_until(const struct error *err, int64_t wait_ms)
{
    struct reply reply = reply_error(err);

    if (err->code == ERROR_TOO_MANY)
        reply_add_header(&reply, "Retry-After", "%lld", (long long)(wait_ms + 999) / 1000);
    return reply;
}

void reply_add_header(struct reply *reply, const char *name, const char *fmt, ...)
{
    va_list args;

    if (reply->header_count == REPLY_HEADERS_MAX)
        return;
    struct reply_header *header = &reply->headers[reply->header_count++];
    header->name = name;
    va_start(args, fmt);
    vsnprintf(header->value, sizeof(header->value), fmt, args);
    va_end(args);
}

void reply_done(struct reply *reply)
{
    buffer_done(&reply->body);
    free(reply->call);
    reply->call = NULL;
}

const char *error_form_content_type(enum error_form form)
{
    return form == ERROR_FORM_PROBLEM ? "application/problem+json" : "application/json";
}

bool reply_error_body(enum error_form form, const struct error *err, const char *request_id,
                      struct buffer *out, struct error *oom)
{
    const char *detail = error_public_detail(err);
    json_t *json;

    if (form == ERROR_FORM_PLAIN)
        json = json_pack("{s:s}", "error", detail);
    else if (form == ERROR_FORM_OLDER)
        json = json_pack("{s:b, s:s}", "ok", false, "message", detail);
    else
        json = json_pack("{s:o, s:s, s:i, s:s, s:s}", "type",
                         json_sprintf("urn:darkroom:problem:%s", error_slug(err->code)), "title",
                         error_title(err->code), "status", error_http_status(err->code), "detail",
                         detail, "request_id", request_id);
    CLEANUP_FREE char *text =
        json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (text == NULL)
        return error_oom(oom);
    return buffer_append_str(out, text, oom) && buffer_append_str(out, "\n", oom);
}

bool reply_on_the_wire(const struct reply *reply, const char *request_id, const char *lines,
                       struct buffer *out, struct error *oom)
{
    const enum error_code code = reply->error.code;
    bool usual = reply->status == error_http_status(code); /* a call's may be another */

    if (!buffer_printf(out, oom,
                       "HTTP/1.1 %d %s\r\n%sContent-Type: %s\r\nContent-Length: %zu\r\n"
                       "X-Request-Id: %s\r\nConnection: close\r\n",
                       reply->status, usual ? error_title(code) : "", lines, reply->content_type,
                       reply->body.len, request_id))
        return false;
    for (size_t i = 0; i < reply->header_count; i++)
        if (!buffer_printf(out, oom, "%s: %s\r\n", reply->headers[i].name, reply->headers[i].value))
            return false;
    return buffer_append_str(out, "\r\n", oom) &&
           buffer_append(out, reply->body.data, reply->body.len, oom);
}
