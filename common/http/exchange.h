/* One request from the end of its headers to the end of its reply: whether it is accepted, its
 * body, its answer, and what is told of it afterwards. Knows no libmicrohttpd: server.c moves the
 * bytes. Used by its connection's thread only. */
#pragma once

#include "http/admission.h"
#include "http/cors.h"

enum {
    EXCHANGE_FIELDS_MAX = 64,
    EXCHANGE_HEADERS_MAX = 32768, /* libmicrohttpd's pool of a connection */
    EXCHANGE_REPLY_BYTES = 2048,  /* of the pool, for the head of a reply */
    H2_FIELDS_BYTES_MAX = 16384,  /* names and values, and 32 for each (RFC 9113, 10.5.1) */
};

struct exchange_fields {
    struct http_field field[EXCHANGE_FIELDS_MAX];
    size_t count;
};

/* Made by calloc; whoever makes it fills in the first group and calls exchange_begin. */
struct exchange {
    struct admission *admission;
    struct connection *connection;
    struct exchange_fields headers, query;
    bool fields_bad;                 /* too many parameters, a NUL in one, or in the URL */
    bool headers_too_large;          /* too many of them, or no room for a reply beside them */
    enum error_form form;            /* of its errors */
    char peer[PEER_MAX];             /* connection_peer */
    bool multiplexed;                /* HTTP/2: a reply may have trailers */
    const atomic_bool *gone;         /* see context.h */
    const struct rpc_protocol *call; /* its protocol; NULL: REST */
    bool streams;                    /* a call to a ROUTER_STREAM */
    int64_t call_deadline_ms;        /* the client's, or INT64_MAX */

    const struct route *route; /* NULL for OPTIONS, and when refused before one was found */
    struct request req;
    char id[REQUEST_ID_MAX + 1];
    struct caller caller;
    char cors[CORS_LINES_MAX]; /* for an answer on the socket */
    struct counted counted;
    int64_t content_length; /* 0 when unknown */
    double started_s;
    struct stages stages;
    int64_t charged;
    int status;
    size_t reply_bytes;
    bool replied;
    bool refused; /* answered before its body was read */
};

/* False when there is no room for it. */
bool exchange_add_field(struct exchange_fields *fields, struct http_field field) NODISCARD;

/* The headers are there; `method` and `target` (the request target without its query, decoded) are
 * borrowed until exchange_end. */
void exchange_begin(struct exchange *x, const char *method, const char *target);
/* Whether the body may come; false: *refusal is to be sent instead. */
bool exchange_accept(struct exchange *x, bool http_1_0, struct reply *refusal) NODISCARD;
/* Send the refusal on the socket itself, when libmicrohttpd cannot; then linger. */
void exchange_refuse_on_socket(struct exchange *x, struct reply *refusal);
/* A piece of the body; what cannot be taken is answered on the socket, the rest discarded. */
void exchange_append_body(struct exchange *x, const void *data, size_t len);
/* The body is complete: run the handler. False when the request has been answered already. */
bool exchange_handle(struct exchange *x, struct reply *ret) NODISCARD;
/* The same while the body arrives, for a call that `streams`; always answered. */
void exchange_handle_stream(struct exchange *x, struct rpc_stream *stream, struct reply *ret);
/* Whether the caller still may (server_options.confirm). For a thread that may wait. */
bool exchange_confirm(const struct exchange *x, struct error *err) NODISCARD;
/* Of what begins now. */
int64_t exchange_deadline(const struct exchange *x);
/* Make `reply` what is sent: an error's body (here, where the request id is known; its details go
 * to the log) and CORS headers. */
void exchange_finish_reply(struct exchange *x, struct reply *reply);
/* The reply is sent (or the client gone): log and give everything back. Frees `x`. After a refusal
 * it blocks for a while, so that the client sees the answer (connection_linger). */
void exchange_end(struct exchange *x, bool sent);
