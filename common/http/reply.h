/* What a handler answers. Built by value, sent and freed by the server. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <jansson.h>

enum {
    REPLY_HEADERS_MAX = 12,
    REPLY_HEADER_VALUE_MAX = 256,
    REPLY_TRAILERS_MAX = 5,
    REPLY_TRAILER_VALUE_MAX = 800, /* an error's message, percent-encoded */
    REPLY_PREFIX_LEN = 5,
};

/* What the reply to a call (rpc.h) has more than others. */
struct reply_call {
    uint8_t prefix[REPLY_PREFIX_LEN]; /* sent before the body */
    bool has_message;                 /* else no prefix and no body: the trailers alone */
    size_t trailer_count;
    struct reply_trailer {
        const char *name; /* static */
        char value[REPLY_TRAILER_VALUE_MAX];
    } trailers[REPLY_TRAILERS_MAX];
};

struct reply {
    int status;
    const char *content_type; /* static; NULL without a body */
    struct buffer body;
    size_t header_count;
    struct reply_header {
        const char *name; /* static */
        char value[REPLY_HEADER_VALUE_MAX];
    } headers[REPLY_HEADERS_MAX];
    struct error error;      /* code != ERROR_NONE: the body is made of it when it is sent */
    bool close;              /* end the connection after it */
    int64_t charged_bytes;   /* of the request's budget: given back when the reply has been sent */
    struct reply_call *call; /* or NULL */
};

/* Takes the reference to `json` (NULL: out of memory). */
struct reply reply_json(int status, json_t *json);
/* The same, and no cache keeps it. */
struct reply reply_private(int status, json_t *json);
/* Takes the buffer's contents. `content_type` is static. */
struct reply reply_buffer(int status, const char *content_type, struct buffer *body);
struct reply reply_text(int status, const char *content_type, const char *text);
struct reply reply_empty(int status);
/* application/problem+json (RFC 9457) with error_public_detail. The message of a 5xx is logged by
 * the server under the request's id. */
struct reply reply_error(const struct error *err);
/* The same; of ERROR_TOO_MANY with Retry-After, wait_ms in whole seconds. */
struct reply reply_error_until(const struct error *err, int64_t wait_ms);

void reply_add_header(struct reply *reply, const char *name, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
void reply_done(struct reply *reply);

/* How the body of an error looks. */
enum error_form {
    ERROR_FORM_PROBLEM, /* problem+json */
    ERROR_FORM_PLAIN,   /* {"error": detail}: the Open Inference Protocol's */
    ERROR_FORM_OLDER,   /* {"ok": false, "message": detail}: the older image manager's */
};
const char *error_form_content_type(enum error_form form);
/* The body, appended to out. */
bool reply_error_body(enum error_form form, const struct error *err, const char *request_id,
                      struct buffer *out, struct error *oom) NODISCARD;

/* An error's reply as bytes on the wire, a whole HTTP/1.1 response, for a socket that libmicrohttpd
 * does not answer. `lines`: further header lines, each with its CRLF. */
bool reply_on_the_wire(const struct reply *reply, const char *request_id, const char *lines,
                       struct buffer *out, struct error *oom) NODISCARD;
