/* Remote calls (gRPC and its like) inside HTTP requests and replies. http knows of them by this
 * table only, so that it includes nothing of grpc. A call is a request with a route whose method is
 * ROUTER_CALL; its handler sees the message as the body, and its reply's body is a message. */
#pragma once

#include "http/encoding.h"

struct rpc_protocol {
    const char *types[2]; /* a POST with such a Content-Type is a call; the second may be NULL */
    /* Its replies end with trailers: over HTTP/2 only. Its clients see an answer that comes before
     * they have sent all. */
    bool trailers;
    /* How long its client waits; INT64_MAX: it does not say. ERROR_BAD_REQUEST: in the headers is
     * something wrong. */
    bool (*timeout_ms)(const struct request *req, int64_t *ret, struct error *err);
    /* How long the whole body is as far as its first bytes tell; 0: they do not. May be NULL. */
    size_t (*expect)(struct bytes first);
    /* The message of at most `max` bytes in the whole body. ERROR_BAD_REQUEST, ERROR_TOO_LARGE,
     * ERROR_NOT_IMPLEMENTED, ERROR_OVERLOADED. */
    bool (*open)(const struct request *req, size_t max, struct decoded_body *ret,
                 struct error *err);
    /* Make what is sent of a handler's reply, or of a refusal: its trailers, and the prefix of its
     * message. */
    void (*close)(const struct request *req, struct reply *reply);
};

/* The protocol of a request, among `all` (NULL-terminated; or NULL); NULL: not a call.
 * `trailers`: whether they can be sent. */
const struct rpc_protocol *rpc_find(const struct rpc_protocol *const *all,
                                    const struct request *req, bool trailers);
