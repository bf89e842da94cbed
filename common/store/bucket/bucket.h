/* A bucket behind a REST API: what S3 and Google's XML API share. The two differ in a dialect:
 * how a request proves who sends it, and what some headers are called. Private to common/store. */
#pragma once

#include "client/http_client.h"
#include "store/bucket/sigv4.h"
#include "store/driver.h"

enum {
    BUCKET_HEADERS_MAX = 8,
    BUCKET_CODE_MAX = 64,
    BUCKET_LISTING_MAX = 16 << 20, /* 1,000 keys of 3 KiB, and room */
};

struct bucket_call {
    const char *method;
    const char *key;   /* NULL: the bucket itself */
    const char *query; /* percent-encoded, without '?'; "" for none */
    struct bytes body;
    struct sigv4_header headers[BUCKET_HEADERS_MAX]; /* values borrowed */
    size_t header_count;
    size_t max_reply_bytes;
    int64_t deadline_ms;
};

/* One attempt, as it goes out. */
struct bucket_attempt {
    const struct bucket_call *call;
    char *path;                          /* "/bucket/key", percent-encoded */
    char *lines[BUCKET_HEADERS_MAX + 8]; /* "Name: value", NULL-terminated */
    size_t line_count;
    int64_t skew_s; /* bucket->skew_s when it began */
    bool prepared;  /* false: it was never sent */
};

struct bucket;

struct bucket_dialect {
    struct sigv4_header if_absent;
    /* One attempt. True when a complete reply of any status arrived; errors of http_client_call. */
    bool (*send)(struct bucket *bucket, const struct bucket_attempt *attempt,
                 struct http_reply *ret, struct error *err);
    /* Instead of `send`: by http/client. Add what each attempt carries besides the call's own
     * headers. */
    bool (*prepare)(struct bucket *bucket, struct bucket_attempt *attempt, struct error *err);
    /* The server answered 401 or 403: whether another attempt may fare better. */
    bool (*refused)(struct bucket *bucket, const struct bucket_attempt *attempt,
                    const struct http_reply *reply, const char *code);
    void (*close)(struct bucket *bucket); /* ends bucket->state; may be NULL */
};

struct bucket {
    const struct bucket_dialect *dialect;
    void *state;                  /* the dialect's */
    struct store_options options; /* its strings are borrowed */
    char *base;                   /* "https://host:port" */
    char *host;                   /* as the Host header says it */
    char *root;                   /* "/bucket", or "" when the bucket is part of the host */
    _Atomic int64_t seen_ms;      /* when the bucket was last known to exist (monotonic) */
    atomic_bool unconditional;    /* the server knows no condition on PUT (Swift) */
    _Atomic int64_t skew_s;       /* what the server's clock is ahead of ours (S3) */
};

/* endpoint: "http(s)://host[:port]". NULL: ERROR_CONFIG. */
struct bucket *bucket_new(const struct bucket_dialect *dialect, const struct store_options *options,
                          const char *endpoint, const char *name, bool virtual_addressing,
                          struct error *err) NODISCARD;
void bucket_free(void *bucket); /* as a driver's free */

/* Send the call, again after passing faults (at most 4 attempts, full jitter, inside the deadline).
 * True for 2xx, 404 (of the object: a missing bucket is ERROR_UNAVAILABLE), 412, 416 and
 * 501 (not implemented); *ret is
 * then the caller's. Otherwise ERROR_UNAVAILABLE, ERROR_DEADLINE, ERROR_TOO_LARGE,
 * ERROR_BAD_REQUEST (a key that the server does not take). */
bool bucket_send(struct bucket *bucket, const struct bucket_call *call, struct http_reply *ret,
                 struct error *err) NODISCARD;

/* What a reply may hold: the object or listing, or an error document. */
size_t bucket_reply_max(const struct bucket_call *call);
void bucket_call_header(struct bucket_call *call, const char *name, const char *value);
/* "Name: value" on the heap, taken over. */
void bucket_attempt_header(struct bucket_attempt *attempt, char *line);
/* bucket_dialect.refused of those that sign a date: our clock is wrong, and from now on the
 * server's is taken (bucket->skew_s). */
bool bucket_refused_for_time(struct bucket *bucket, const struct bucket_attempt *attempt,
                             const struct http_reply *reply, const char *code) NODISCARD;
/* Seconds since 1970 of an HTTP date (RFC 9110, 5.6.7), or -1. */
int64_t bucket_http_date(const char *text);

bool bucket_list(void *state, const char *prefix, int64_t deadline_ms, store_list_fn fn, void *ctx,
                 struct error *err) NODISCARD;
