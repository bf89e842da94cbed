#include "http/cors.h"

#include "base/strings.h"

#include <string.h>

static bool origin_is_allowed(const char *origins, const char *origin)
{
    return strcmp(origins, "*") == 0 || string_list_has(origins, origin, true);
}

void cors_add(const char *origins, const struct request *req, struct reply *reply)
{
    const char *origin = request_header(req, "Origin");

    if (*origins == '\0')
        return;
    if (strcmp(origins, "*") != 0)
        reply_add_header(reply, "Vary", "Origin");
    if (origin == NULL || strlen(origin) >= REPLY_HEADER_VALUE_MAX ||
        !origin_is_allowed(origins, origin))
        return;
    reply_add_header(reply, "Access-Control-Allow-Origin", "%s",
                     strcmp(origins, "*") == 0 ? "*" : origin);
    reply_add_header(reply, "Access-Control-Expose-Headers",
                     "Content-Range, ETag, Grpc-Message, Grpc-Status, Retry-After, Server-Timing, "
                     "X-Request-Id");
}

void cors_lines(const char *origins, const struct request *req, char out[CORS_LINES_MAX])
{
    struct reply reply = reply_empty(0);
    size_t len = 0;

    *out = '\0';
    cors_add(origins, req, &reply);
    for (size_t i = 0; i < reply.header_count && len < CORS_LINES_MAX; i++)
        len += (size_t)snprintf(out + len, CORS_LINES_MAX - len, "%s: %s\r\n",
                                reply.headers[i].name, reply.headers[i].value);
    if (len >= CORS_LINES_MAX) /* rather none than half a line */
        *out = '\0';
}

struct reply cors_preflight(const char *origins, const char *allow)
{
    struct error err;

    if (*allow == '\0') {
        error_set(&err, ERROR_NOT_FOUND, "no such path; /openapi.json lists the paths");
        return reply_error(&err);
    }
    struct reply reply = reply_empty(204);
    reply_add_header(&reply, "Allow", "%s", allow);
    if (*origins != '\0') {
        reply_add_header(&reply, "Access-Control-Allow-Methods", "%s", allow);
        reply_add_header(&reply, "Access-Control-Allow-Headers",
                         "Authorization, Cache-Control, Connect-Protocol-Version, "
                         "Connect-Timeout-Ms, Content-Encoding, Content-Type, Grpc-Timeout, "
                         "If-None-Match, If-Range, Range, X-Grpc-Web, X-Request-Id, "
                         "X-Requested-With, X-User-Agent, baggage, traceparent, tracestate");
        reply_add_header(&reply, "Access-Control-Max-Age", "600");
    }
    return reply;
}
