/* HTTP client over libcurl: one call, one reply. TLS always verified, http and https only, no
 * redirects followed, no proxy surprises from ~/.netrc, bytes on the wire exactly as given
 * (CURLOPT_PATH_AS_IS). Connections are kept and reused.
 *
 * A client may be used from many threads at once: easy handles are pooled, at most one per call
 * in progress. */
#ifndef DARKROOM_HTTP_CLIENT_H
#define DARKROOM_HTTP_CLIENT_H

#include "base/bytes.h"

struct http_client;

struct http_call {
    const char *method;         /* "GET", "PUT", … */
    const char *url;            /* absolute, already percent-encoded */
    const char *const *headers; /* NULL-terminated "Name: value" lines; may be NULL */
    struct bytes body;          /* sent when data is not NULL */
    int64_t deadline_ms;        /* monotonic clock */
    size_t max_reply_bytes;     /* a longer body is ERROR_TOO_LARGE */
};

enum { HTTP_REPLY_HEADERS_MAX = 64 };

struct http_reply {
    long status;
    struct buffer body;
    struct buffer headers; /* "name: value\n" lines, names in lower case */
};

/* `ca_file`: NULL or "" for the system's CA bundle. NULL on failure (err set). */
struct http_client *http_client_new(const char *ca_file, struct error *err) NODISCARD;
void http_client_free(struct http_client *client);

/* True when a complete reply of any status arrived; *ret is then the caller's
 * (http_reply_done). Otherwise: ERROR_DEADLINE, ERROR_TOO_LARGE, ERROR_UNAVAILABLE (cannot
 * connect, reset, truncated), ERROR_BAD_REQUEST (URL). A request on a kept connection that the peer
 * had already closed is repeated once on a new one (RFC 9112, 9.3.1), by libcurl. */
bool http_client_call(struct http_client *client, const struct http_call *call,
                      struct http_reply *ret, struct error *err) NODISCARD;

/* The value of a reply header, appended to out; false when absent. */
bool http_reply_header(const struct http_reply *reply, const char *name, char *out, size_t size);
void http_reply_done(struct http_reply *reply);

#endif
