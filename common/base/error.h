/* The one error type. Functions that can fail return bool and take `struct error *err` last;
 * on false *err says why, on true it is untouched. `err` is never NULL.
 *
 * The table below is the only place that lists error codes: symbol, slug (logs, problem `type`),
 * HTTP status (read only by http/reply). */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>

#define ERROR_TABLE(X)                                                                             \
    X(ERROR_NONE, "none", 200, "OK")                                                               \
    X(ERROR_BAD_REQUEST, "bad-request", 400, "Bad Request")                                        \
    X(ERROR_UNAUTHORIZED, "unauthorized", 401, "Unauthorized")                                     \
    X(ERROR_FORBIDDEN, "forbidden", 403, "Forbidden")                                              \
    X(ERROR_NOT_FOUND, "not-found", 404, "Not Found")                                              \
    X(ERROR_METHOD_NOT_ALLOWED, "method-not-allowed", 405, "Method Not Allowed")                   \
    X(ERROR_CONFLICT, "conflict", 409, "Conflict")                                                 \
    X(ERROR_TOO_SLOW, "too-slow", 408, "Request Timeout")                                          \
    X(ERROR_TOO_LARGE, "too-large", 413, "Content Too Large")                                      \
    X(ERROR_UNSUPPORTED_MEDIA, "unsupported-media", 415, "Unsupported Media Type")                 \
    X(ERROR_RANGE, "range-not-satisfiable", 416, "Range Not Satisfiable")                          \
    X(ERROR_BAD_IMAGE, "bad-image", 422, "Unprocessable Content")                                  \
    X(ERROR_TOO_MANY, "too-many", 429, "Too Many Requests")                                        \
    X(ERROR_HEADERS_TOO_LARGE, "headers-too-large", 431, "Request Header Fields Too Large")        \
    X(ERROR_INTERNAL, "internal", 500, "Internal Server Error")                                    \
    X(ERROR_NOT_IMPLEMENTED, "not-implemented", 501, "Not Implemented")                            \
    X(ERROR_OVERLOADED, "overloaded", 503, "Service Unavailable")                                  \
    X(ERROR_DEADLINE, "deadline", 503, "Service Unavailable")                                      \
    X(ERROR_UNAVAILABLE, "unavailable", 503, "Service Unavailable")                                \
    X(ERROR_SHUTTING_DOWN, "shutting-down", 503, "Service Unavailable")                            \
    X(ERROR_CONFIG, "configuration", 500, "Internal Server Error")

enum error_code {
#define X(symbol, slug, status, title) symbol,
    ERROR_TABLE(X)
#undef X
};

struct error {
    enum error_code code;
    char message[256]; /* UTF-8, whatever was quoted */
};

/* Set *err. Always returns false, so `return error_set(...)` reads well. */
bool error_set(struct error *err, enum error_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put "context: " in front of the message. Always returns false. */
bool error_wrap(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Out of memory: ERROR_OVERLOADED, since trying again later is the right thing to do. */
bool error_oom(struct error *err);

const char *error_slug(enum error_code code);
const char *error_title(enum error_code code);
int error_http_status(enum error_code code);

/* Whether the same call may succeed later (every 503): senders should retry. */
bool error_is_passing(enum error_code code);

/* What a client may read: the message, but of a 500 and a 503 only what kind of failure it is.
 * Borrowed from `err`, or static. */
const char *error_public_detail(const struct error *err);
