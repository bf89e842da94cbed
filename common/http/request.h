/* One HTTP request as a handler sees it: no libmicrohttpd types, so handlers are tested without a
 * socket. Everything is borrowed and valid until the handler returns. */
#pragma once

#include "base/bytes.h"
#include "base/context.h"

struct rpc_stream;

struct http_field {
    const char *name;
    const char *value; /* never NULL */
};

/* What a route says of itself. Where there are users, and it says nothing of them, it is for them.
 */
enum route_flags {
    ROUTE_LIGHT = 1,  /* health, metrics, documentation: always answered, waits for nothing */
    ROUTE_PUBLIC = 2, /* for everybody, unless AUTH_AUDIENCE guards all routes */
    ROUTE_OPEN = 4,   /* for everybody */
    ROUTE_OLDER = 8,  /* errors as ERROR_FORM_OLDER */
};

enum { PEER_MAX = 46 }; /* INET6_ADDRSTRLEN */

struct request {
    const char *method;   /* "HEAD" stays "HEAD" though a GET route handles it */
    const char *path;     /* percent-decoded */
    const char *route;    /* the route's pattern, e.g. "/images/{id}" */
    const char *argument; /* the path from what {…} in the pattern matched on, or "" */
    unsigned flags;       /* the route's */
    const char *peer;     /* the address at the other end of the connection, or "" */
    const struct http_field *headers;
    size_t header_count;
    const struct http_field *query; /* decoded */
    size_t query_count;
    struct bytes body;
    struct rpc_stream *stream; /* of a ROUTER_STREAM's call (rpc_stream.h); else NULL */
    struct context context;    /* for use cases; its id is the X-Request-Id */
};

/* The first value of a header (name case-insensitive) or of a query parameter; NULL when absent. */
const char *request_header(const struct request *req, const char *name);
const char *request_query(const struct request *req, const char *name);
/* The value of a header that is there once; NULL when it is not, or more often. */
const char *request_only_header(const struct request *req, const char *name);
/* Where the client is, at the other end of `proxies` proxies, each of which adds to
 * X-Forwarded-For: the peer where that is too short. Without brackets and port. */
void request_client_address(const struct request *req, int64_t proxies, char out[PEER_MAX]);
/* For a route that takes no query parameters. ERROR_BAD_REQUEST: there is one. */
bool request_has_no_query(const struct request *req, struct error *err) NODISCARD;

/* Whether the headers announce a body. */
bool request_expects_body(const struct request *req);

/* The media type of Content-Type in lower case without parameters ("" when absent or too long). */
enum { MEDIA_TYPE_MAX = 128 };
void request_media_type(const struct request *req, char out[MEDIA_TYPE_MAX]);

/* Whether Accept names text/html, and application/json not as much (RFC 9110, 12.5.1): a browser
 * opens a page. Ranges with a `*` do not count, since every program sends them. */
bool request_prefers_html(const struct request *req);

/* Request framing that two servers could read differently (request smuggling, RFC 9112, 6.1 and
 * 11.2): Content-Length with Transfer-Encoding, a repeated Content-Length, Host, Transfer-Encoding
 * or Content-Type, no Host, another Transfer-Encoding than chunked, any on HTTP/1.0.
 * ERROR_BAD_REQUEST.
 * *content_length: 0 without one. */
bool request_framing_check(const struct request *req, bool http_1_0, int64_t *content_length,
                           struct error *err) NODISCARD;

/* A range of the body (RFC 9110, 14.2). Only one range is served; several are answered whole. */
enum range_kind { RANGE_NONE, RANGE_ONE, RANGE_UNSATISFIABLE };
struct byte_range {
    enum range_kind kind;
    uint64_t first, last; /* inclusive, for RANGE_ONE */
};
/* `header`: the Range field's value or NULL; `size`: of the whole representation. */
struct byte_range range_parse(const char *header, uint64_t size);

/* Whether an If-None-Match value lists `etag` (without quotes; weak comparison) or is "*". */
bool etag_matches(const char *if_none_match, const char *etag);
/* The same for all If-None-Match lines of a request: they are one list (RFC 9110, 5.3). */
bool request_has_etag(const struct request *req, const char *etag);
