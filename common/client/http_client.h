/* HTTP client over libcurl: one call, one reply. TLS always verified, http and https only, no
 * redirects followed, no ~/.netrc. The URL's path and query go out byte for byte, and no headers
 * but Host, User-Agent and Content-Length are added, so a signature over them holds.
 *
 * Proxies: https calls honour HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl does (a CONNECT tunnel:
 * TLS stays end to end). http calls never use one: what is plain is near (loopback, the metadata
 * server, a MinIO next door), and it carries tokens.
 *
 * A client may be used from many threads at once: easy handles are pooled, at most one per call
 * in progress, and keep their connections. The process should ignore SIGPIPE. */
#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"

#include <stdatomic.h>
#include <stdint.h>

struct http_client;

struct http_call {
    const char *method;         /* "GET", "PUT", … */
    const char *url;            /* absolute, already percent-encoded */
    const char *const *headers; /* NULL-terminated "Name: value" lines; NULL for none */
    struct bytes body;       /* sent when data is not NULL (empty for PUT and POST); not copied */
    int64_t deadline_ms;     /* monotonic clock; connecting may take 5 s of it */
    int64_t silence_ms;      /* neither sent nor received a byte for so long: ERROR_UNAVAILABLE;
                                0: the deadline alone counts */
    const atomic_bool *gone; /* becomes true: as if the deadline had passed; may be NULL */
    size_t max_reply_bytes;  /* a longer body is ERROR_TOO_LARGE */
    bool h2; /* HTTP/2 by prior knowledge, on a connection of its own; else HTTP/1.1.
                The reply's trailers are then among its headers */
};

enum { HTTP_REPLY_HEADERS_MAX = 64 };

struct http_reply {
    long status;
    struct buffer body;
    struct buffer headers; /* "name: value\n" lines, names in lower case */
};

struct http_client_options {
    const char *ca_file; /* NULL or "" for the system's CA bundle, which it otherwise replaces */
    const struct clock_cut *cut; /* moves the deadlines of running calls; borrowed; may be NULL */
};

/* NULL on failure: ERROR_CONFIG if the CA file holds no certificates. */
struct http_client *http_client_new(const struct http_client_options *options,
                                    struct error *err) NODISCARD;
/* One more owner, who frees it, too: the last http_client_free does. Returns `client`. */
struct http_client *http_client_share(struct http_client *client);
void http_client_free(struct http_client *client);

/* True when a complete reply of any status arrived; *ret is then the caller's
 * (http_reply_done). Otherwise: ERROR_DEADLINE, ERROR_TOO_LARGE, ERROR_UNAVAILABLE (cannot
 * connect, reset, truncated, over 64 headers or 64 KiB of them), ERROR_BAD_REQUEST (method, URL,
 * a header with control characters or about framing). Messages name host and port, never the rest
 * of the URL. A request on a kept connection that the peer closed before any reply is repeated once
 * on a new one (RFC 9112, 9.3.1): what is sent must bear being received twice. */
bool http_client_call(struct http_client *client, const struct http_call *call,
                      struct http_reply *ret, struct error *err) NODISCARD;

/* The value of the first reply header of that name; false when absent or longer than out. */
bool http_reply_header(const struct http_reply *reply, const char *name, char *out, size_t size);
void http_reply_done(struct http_reply *reply);

/* Where the access token comes from that a call carries. Thread-safe. */
enum { BEARER_MAX = 4096 };

struct bearer {
    /* ERROR_UNAVAILABLE or ERROR_DEADLINE. */
    bool (*get)(struct bearer *bearer, int64_t deadline_ms, char out[BEARER_MAX],
                struct error *err);
    /* A server answered 401 to this token: the next caller gets another. */
    void (*expired)(struct bearer *bearer, const char *token);
};
