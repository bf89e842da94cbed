/* One keep-alive connection of the load client: a request goes out in pieces that stay where they
 * are (writev), its reply comes in. Knows HTTP/1.1 as far as our services speak it (replies with
 * Content-Length). Used by one thread, with non-blocking sockets. */
#pragma once

#include "photo.h"

#include <netinet/in.h>
#include <sys/uio.h>

enum {
    EXCHANGE_HEAD_MAX = 512, /* a request's header */
    EXCHANGE_REPLY_MAX = 65536,
    EXCHANGE_PIECES = 6,
};

enum exchange_state {
    EXCHANGE_IDLE,    /* connected or not, nothing to do */
    EXCHANGE_ACTIVE,  /* a request is on its way, or its reply is awaited */
    EXCHANGE_REPLIED, /* status and body are there until the next request */
    EXCHANGE_FAILED,  /* the connection broke: exchange_begin connects anew */
};

struct exchange {
    int fd; /* -1: not connected */
    int epoll;
    bool wants_write; /* as epoll knows it */
    enum exchange_state state;
    struct iovec piece[EXCHANGE_PIECES];
    int pieces, sent;
    uint8_t mark[PHOTO_MARK_MAX];

    char *reply; /* EXCHANGE_REPLY_MAX + 1 bytes */
    size_t reply_len;
    size_t head_len; /* 0 until the reply's header is complete */
    size_t body_len;
    int status;
    bool close;

    double started_s;
    uint64_t tag; /* the caller's */
};

/* `epoll` reports events with data.ptr = x. */
void exchange_init(struct exchange *x, int epoll);
void exchange_done(struct exchange *x);

/* Send what x->piece says (x->pieces of them, borrowed until the reply is there). */
void exchange_begin(struct exchange *x, const struct sockaddr_in *server);
/* The socket is ready: go on. Look at x->state afterwards. */
void exchange_go_on(struct exchange *x, uint32_t events);

/* The reply's body, NUL-terminated, while EXCHANGE_REPLIED. */
const char *exchange_body(const struct exchange *x);
/* The value of a header field of the reply, or NULL. `name` is like "\r\nRetry-After:". */
const char *exchange_field(const struct exchange *x, const char *name);
