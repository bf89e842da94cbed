/* One client connection, or one stream of an HTTP/2 connection: what carries one request at a time,
 * as the thread that serves it and the reaper see it. Only connections.c and reaper.c include this.
 *
 * A stream has no socket. It is in the list for its body's and its reply's clock and for evictions,
 * and counts against no limit on connections: its HTTP/2 connection, which is in the list as well,
 * does. That one is idle, or handling.
 *
 * Lock order: the list's mutex before a connection's own. */
#pragma once

#include "base/bytes.h"
#include "base/context.h"
#include "http/connections.h"
#include "http/refusal.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    CONNECTION_BODY_GRACE_MS = 5000, /* a body's rate says little before */
    CONNECTION_CHARGE_STEP = 65536,  /* of the budget, for a body */
    CONNECTION_EXPECT_MAX = 1048576, /* untouched memory costs little: most uploads never move */
};

enum phase {
    PHASE_IDLE,     /* waiting for a request, or receiving its headers */
    PHASE_BODY,     /* receiving a body */
    PHASE_HANDLING, /* the handler runs, or no body is expected */
    PHASE_REPLY,    /* sending */
    /* on the way out, not counted against the limit: */
    PHASE_REFUSED, /* answered behind libmicrohttpd's back; what comes is discarded */
    PHASE_LINGER,  /* answered; what comes is discarded */
    PHASE_CLOSING, /* shut down; its thread is about to notice */
};

struct connection {
    struct connections *all;
    struct connection *previous, *next;
    int fd; /* a stream's: -1 */
    char peer[PEER_MAX];
    /* of a stream: something was done to it from outside; may be called with locks held */
    void (*wake)(void *ctx);
    void *wake_ctx;

    pthread_mutex_t mutex; /* guards what follows */
    enum phase phase;
    int64_t since_ms;      /* when the phase began */
    int64_t last_byte_ms;  /* PHASE_BODY */
    int64_t until_ms;      /* PHASE_REPLY, PHASE_REFUSED: shut down then */
    int64_t headers_ms;    /* PHASE_IDLE: when the first byte of a request was seen, or 0 */
    int64_t look_ms;       /* PHASE_IDLE: when to look for one next */
    uint64_t bytes_before; /* PHASE_IDLE: bytes received by the last reply */
    struct buffer body;
    bool has_place;  /* its request counts in MAX_INFLIGHT */
    size_t expected; /* bytes to set aside for it */
    bool is_read;    /* its handler reads while the body arrives (rpc_stream.h) */
    bool awaited;    /* and waits for the client just now */
    int64_t charged;
    int refused_status;
    struct error refusal; /* a stream's answer, for its own thread to send */
    bool served;          /* has had a request already */
    bool http2;           /* a socket with streams: its own thread watches its idle time */
    char request_id[REQUEST_ID_MAX + 1];
    struct refusal_look look;
};

struct connections {
    int64_t max_connections;
    int64_t max_body_bytes;
    int64_t body_stall_ms;
    int64_t body_min_rate;
    struct byte_budget *budget;
    pthread_mutex_t mutex; /* guards the list; taken before a connection's own */
    struct connection *first;
    int count;
    atomic_int leaving; /* of these, on the way out */
    atomic_int lingerers;
    int64_t cut_ms;
    bool stopping;
    pthread_cond_t changed; /* stopping or cut_ms */
    pthread_t reaper;
};

/* ---- called with the connection locked ---- */

/* Bytes received on its socket so far: tcp(7), TCP_INFO, Linux >= 4.1. 0 where unknown. */
uint64_t connection_bytes_received(const struct connection *c);
void connection_enter(struct connection *c, enum phase phase);
void connection_release_body(struct connection *c);
void connection_shut_down(struct connection *c);
/* Answer from outside the connection's own thread, which is waiting for bytes and not writing. */
void connection_answer(struct connection *c, enum error_code code, const char *message);
