/* What libs3 hands to libcurl, under our rules. libs3 follows redirects, takes proxies from the
 * environment, calls a truncated body whole, overruns its arrays when a reply has many headers,
 * writes "+" for a space in a path and formats dates in a buffer shared by all threads; it has no
 * switch for any of these. It is therefore linked statically, from a copy in which four of its
 * calls are renamed to functions of this file (objcopy in the Makefile), and without its reader of
 * XML: libs3 composes and signs the request, and everything from the socket on is done here.
 * Private to common/store. */
#pragma once

#include "client/http_client.h"

struct libs3_transfer {
    const char *url;        /* instead of libs3's; NULL: that one */
    struct bytes body;      /* of a PUT; borrowed */
    bool is_get;            /* its body matters */
    size_t max_reply_bytes; /* a longer body is ERROR_TOO_LARGE */
    int64_t skew_s;         /* added to the time that is signed */

    size_t sent;
    void *multi; /* NULL: libs3 refused before anything was sent */
    void *easy;  /* libs3_transfer_done */
    int result;
    bool ended; /* `result`, a CURLcode, is known */
    bool headers_complete;
    struct error err;
    struct http_reply reply; /* the caller's (http_reply_done) */
};

/* What libs3 does on this thread belongs to `t`; NULL: to no transfer. */
void libs3_transfer_enter(struct libs3_transfer *t);
/* When libs3 has completed the request, or is about to drop it. */
void libs3_transfer_done(struct libs3_transfer *t);
/* Until something moves, at most so long. */
void libs3_transfer_wait(const struct libs3_transfer *t, int64_t ms);
/* In libs3's complete callback: take over status and headers. True if the reply is complete;
 * otherwise t->err says why. */
bool libs3_transfer_complete(struct libs3_transfer *t);
