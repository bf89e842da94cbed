#include "exchange.h"

#include "program.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void exchange_init(struct exchange *x, int epoll)
{
    *x = (struct exchange){.fd = -1, .epoll = epoll, .reply = allocate(EXCHANGE_REPLY_MAX + 1)};
}

static void disconnect(struct exchange *x)
{
    if (x->fd >= 0)
        close(x->fd);
    x->fd = -1;
}

void exchange_done(struct exchange *x)
{
    disconnect(x);
    free(x->reply);
    x->reply = NULL;
}

static void fail(struct exchange *x)
{
    disconnect(x);
    x->state = EXCHANGE_FAILED;
}

static bool watch(struct exchange *x, int operation, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = x};

    x->wants_write = write;
    return epoll_ctl(x->epoll, operation, x->fd, &event) == 0;
}

static bool connect_to(struct exchange *x, const struct sockaddr_in *server)
{
    static const int on = 1;

    x->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (x->fd < 0)
        return false;
    setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(x->fd, (const struct sockaddr *)server, sizeof(*server)) != 0 &&
        errno != EINPROGRESS)
        return false;
    return watch(x, EPOLL_CTL_ADD, true);
}

/* Drop the first n bytes of what is to be sent. */
static void advance(struct exchange *x, size_t n)
{
    while (n > 0) {
        struct iovec *piece = &x->piece[x->sent];
        size_t part = n < piece->iov_len ? n : piece->iov_len;

        piece->iov_base = (char *)piece->iov_base + part;
        piece->iov_len -= part;
        n -= part;
        if (piece->iov_len == 0)
            x->sent++;
    }
    while (x->sent < x->pieces && x->piece[x->sent].iov_len == 0)
        x->sent++;
}

/* A server that has already answered may stop reading: what it said is looked at all the same. */
static void send_more(struct exchange *x)
{
    while (x->sent < x->pieces) {
        ssize_t n = writev(x->fd, x->piece + x->sent, x->pieces - x->sent);

        if (n >= 0) {
            advance(x, (size_t)n);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            x->sent = x->pieces;
            x->close = true;
        }
    }
    if (x->wants_write != (x->sent < x->pieces) && !watch(x, EPOLL_CTL_MOD, x->sent < x->pieces))
        fail(x);
}

void exchange_begin(struct exchange *x, const struct sockaddr_in *server)
{
    bool fresh = x->fd < 0;

    x->started_s = now_s();
    x->sent = 0;
    x->reply_len = x->head_len = x->body_len = 0;
    x->status = 0;
    x->close = false;
    x->state = EXCHANGE_ACTIVE;
    if (fresh && !connect_to(x, server)) {
        fail(x);
        return;
    }
    if (!fresh)
        send_more(x);
}

const char *exchange_field(const struct exchange *x, const char *name)
{
    const char *found = strcasestr(x->reply, name);

    return found != NULL && found < x->reply + x->head_len ? found + strlen(name) : NULL;
}

static void read_head(struct exchange *x)
{
    const char *end = strstr(x->reply, "\r\n\r\n");
    const char *length, *connection;

    if (end == NULL)
        return;
    x->head_len = (size_t)(end - x->reply) + 4;
    x->status = x->reply_len > 12 ? atoi(x->reply + 9) : 0;
    length = exchange_field(x, "\r\nContent-Length:");
    connection = exchange_field(x, "\r\nConnection:");
    x->body_len = length != NULL ? (size_t)strtoul(length, NULL, 10) : 0;
    if (connection != NULL && strncasecmp(connection + strspn(connection, " "), "close", 5) == 0)
        x->close = true;
    if (x->status == 100) { /* an interim reply: the real one follows */
        x->reply_len -= x->head_len;
        memmove(x->reply, x->reply + x->head_len, x->reply_len + 1);
        x->head_len = 0;
        read_head(x);
    }
}

static void finish(struct exchange *x)
{
    x->state = EXCHANGE_REPLIED;
    /* a reply before the whole request was sent: the connection cannot be used again */
    if (x->close || x->sent < x->pieces)
        disconnect(x);
}

static void receive(struct exchange *x)
{
    while (x->state == EXCHANGE_ACTIVE) {
        ssize_t n = read(x->fd, x->reply + x->reply_len, EXCHANGE_REPLY_MAX - x->reply_len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            fail(x);
            return;
        }
        x->reply_len += (size_t)n;
        x->reply[x->reply_len] = '\0';
        if (x->head_len == 0)
            read_head(x);
        if (x->head_len > 0 && x->reply_len >= x->head_len + x->body_len)
            finish(x);
    }
}

void exchange_go_on(struct exchange *x, uint32_t events)
{
    if (x->state != EXCHANGE_ACTIVE) { /* an idle connection that the server closes */
        disconnect(x);
        return;
    }
    if ((events & EPOLLOUT) != 0)
        send_more(x);
    if (x->state == EXCHANGE_ACTIVE && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        receive(x);
}

const char *exchange_body(const struct exchange *x)
{
    return x->reply + x->head_len;
}
