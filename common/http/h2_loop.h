/* What the files of HTTP/2 share. A session is used by the loop's thread only, a stream by it and,
 * while its handler runs, by a handler thread. */
#pragma once

#include "http/exchange.h"
#include "http/h2.h"
#include "http/h2_fields.h"
#include "http/handler_threads.h"
#include "http/rpc_stream.h"

enum {
    H2_STREAMS_MAX = 100,
    H2_SESSION_TEXT_MAX = 262144, /* bytes of fields, of all streams */
    H2_IN_BYTES = 16384,          /* read at a time: PINGs are answered before more are read */
    H2_OUT_BYTES = 65536,
};

struct nghttp2_session;

/* Events of the last seconds. */
struct h2_rate {
    int64_t since_ms;
    int count;
};

/* One HTTP/2 connection. */
struct h2_session {
    struct h2 *h2;
    struct h2_session *previous, *next;
    struct connection *connection;
    int fd;
    struct nghttp2_session *nghttp2;
    struct h2_stream *streams;
    int open;    /* streams that the client sees */
    int running; /* streams whose handler runs or waits, open or not */
    size_t text_bytes;
    uint8_t *unsent; /* what the socket did not take */
    size_t unsent_len, unsent_at;
    bool more;          /* it would take more: others first */
    uint32_t watched;   /* epoll's events */
    int64_t blocked_ms; /* when it took the last byte, while there is something unsent */
    int64_t began_ms;
    int64_t since_ms;   /* without a stream */
    int64_t heard_ms;   /* when the client sent something last */
    bool asked;         /* whether it is still there, by PING */
    int64_t headers_ms; /* when the headers that are on their way began, or 0 */
    int64_t close_ms;   /* 0, or: FIN is sent, wait so long for the client's */
    bool acknowledged;  /* our SETTINGS */
    int64_t drain_ms;   /* 0, or since when the client knows that it shall go */
    bool given_up;      /* what is left to send is sent, and no more */
    bool dirty;         /* to be flushed */
    struct h2_session *next_dirty;
    struct h2_rate errors, pings;
};

enum h2_stream_state {
    H2_RECEIVING,
    H2_DISCARDING, /* refused; the answer waits for the end of the body, or a while */
    H2_RUNNING,    /* its handler is called or queued */
    H2_REPLYING,
};

struct h2_stream {
    struct handler_job job; /* first */
    struct h2 *h2;
    struct h2_session *session; /* NULL: it has been closed */
    struct h2_stream *previous, *next;
    int32_t id;
    enum h2_stream_state state;
    struct h2_fields fields;
    bool ended;    /* the client has sent all */
    bool complete; /* and so have we */
    bool closed;
    atomic_bool gone;   /* closed: nobody waits for an answer */
    struct exchange *x; /* from the end of the headers */
    struct connection *connection;
    struct rpc_stream *stream; /* of a call that streams, or NULL */
    bool begun;                /* its reply's head has been sent */
    struct reply reply;
    bool has_reply;
    int64_t discard_ms;    /* until then */
    int64_t discard_bytes; /* so many are left */
    size_t sent;           /* of the reply's body */
    int64_t charged;
    /* the loop's mutex guards these */
    struct h2_stream *next_ready;
    bool queued, handled;
};

struct h2 {
    struct admission *admission;
    struct handler_threads *handlers;
    int epoll, wake;
    pthread_t thread;
    uint8_t in[H2_IN_BYTES], out[H2_OUT_BYTES];
    struct h2_session *sessions, *dirty;
    int streams;   /* not yet freed */
    time_t date_s; /* when that was `date` */
    char date[32];
    pthread_mutex_t mutex; /* guards what follows */
    struct h2_newcomer *newcomers;
    struct h2_stream *ready;
    bool draining, stopping;
};

/* ---- h2_loop.c ---- */

/* Have the loop look at the stream. Any thread. */
void h2_make_ready(struct h2_stream *s, bool handled);
/* Take it out of the queue. */
void h2_not_ready(struct h2_stream *s);

/* ---- h2_session.c: the only file that knows nghttp2 ---- */

struct h2_session *h2_session_new(struct h2 *h2, struct connection *c, int fd);
/* The socket can be read, or written. False: it is over. */
bool h2_session_read(struct h2_session *session) NODISCARD;
bool h2_session_flush(struct h2_session *session) NODISCARD;
/* Four times a second: the clocks. False: it is over. */
bool h2_session_look(struct h2_session *session, int64_t now) NODISCARD;
/* Ask the client to open no more streams. */
void h2_session_drain(struct h2_session *session);
/* Close the connection when what is to be sent has been. */
void h2_session_end(struct h2_session *session);
/* Flush it when all streams that are ready have been looked at. */
void h2_session_touch(struct h2_session *session);
/* Closes the socket. */
void h2_session_free(struct h2_session *session);

void h2_session_send_reply(struct h2_stream *s);
/* Of a call that streams: send what its handler has written; give the client back so much of the
 * window. */
void h2_session_send_more(struct h2_stream *s);
void h2_session_consume(struct h2_stream *s, size_t bytes);
void h2_session_continue(struct h2_stream *s); /* 100 Continue */
void h2_session_reset(struct h2_stream *s);

/* ---- h2_stream.c ---- */

struct h2_stream *h2_stream_new(struct h2_session *session, int32_t id);
/* The headers are complete, and perhaps the request. */
void h2_stream_begin(struct h2_stream *s, bool ended);
/* False: the bytes wait for their handler, and h2_session_consume tells when it has read them. */
bool h2_stream_data(struct h2_stream *s, const uint8_t *data, size_t len) NODISCARD;
void h2_stream_ended(struct h2_stream *s);
/* It was woken, or its handler has returned. */
void h2_stream_ready(struct h2_stream *s, bool handled);
void h2_stream_look(struct h2_stream *s, int64_t now);
/* Shutdown has begun. */
void h2_stream_drain(struct h2_stream *s);
/* The client sees it no more. Frees it, if no handler runs. */
void h2_stream_closed(struct h2_stream *s);
