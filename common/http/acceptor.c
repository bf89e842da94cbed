#include "http/acceptor.h"

#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "http/server_options.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum {
    BACKLOG = 1024,
    OTHER_FDS = 256, /* store, outbox, pushes, log … */
    BATCH = 16,      /* accepted before others are looked at again */
    FULL_MS = 2,
    NO_DESCRIPTORS_MS = 10,
};

/* A connection whose protocol is not known yet. */
struct newcomer {
    struct connection *connection;
    int fd;
    struct newcomer *previous, *next;
};

struct acceptor {
    struct acceptor_options options;
    struct newcomer *first;
    int epoll, wake;
    bool accepting; /* the thread's own */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool quiesce, quiet, stop;
};

/* ---- the listening socket ---- */

int listener_open(const char *host, int port, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    const int on = 1;

    snprintf(service, sizeof(service), "%d", port);
    int code = getaddrinfo(host, service, &hints, &list);
    if (code != 0) {
        error_set(err, ERROR_CONFIG, "HOST=%s: %s", host, gai_strerror(code));
        return -1;
    }
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    if (!ok) {
        error_set(err, ERROR_CONFIG, "cannot listen on %s:%d: %s", host, port, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

int listener_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char service[8];
    int64_t port = 0;

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, service, sizeof(service),
                    NI_NUMERICSERV) != 0 ||
        !string_to_int64(service, 0, 65535, &port))
        return 0;
    return (int)port;
}

bool listener_raise_fd_limit(int64_t max_connections, struct error *err)
{
    struct rlimit limit;
    rlim_t need = (rlim_t)max_connections + CONNECTIONS_SPARE + OTHER_FDS;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= need)
        return true;
    limit.rlim_cur = need;
    if (limit.rlim_max < need)
        limit.rlim_max = need; /* allowed to root */
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return true;
    return error_set(err, ERROR_CONFIG,
                     "MAX_CONNECTIONS=%lld needs %llu file descriptors: raise `ulimit -n`",
                     (long long)max_connections, (unsigned long long)need);
}

/* ---- newcomers ---- */

/* Which protocol the first bytes are of. Who sends no more is libmicrohttpd's. */
static enum { UNDECIDED, HTTP1, HTTP2, GONE } look(int fd, bool no_more)
{
    static const char preface[] = {'P', 'R', 'I'};
    char bytes[sizeof(preface)];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? UNDECIDED : GONE;
    if (n == 0)
        return GONE;
    if (memcmp(bytes, preface, (size_t)n) != 0)
        return HTTP1;
    if (n == sizeof(preface))
        return HTTP2;
    return no_more ? HTTP1 : UNDECIDED;
}

static void close_newcomer(struct connection *c, int fd)
{
    connections_remove(c);
    close(fd);
}

static void forget(struct acceptor *a, struct newcomer *n)
{
    epoll_ctl(a->epoll, EPOLL_CTL_DEL, n->fd, NULL);
    if (n->next != NULL)
        n->next->previous = n->previous;
    if (n->previous != NULL)
        n->previous->next = n->next;
    else
        a->first = n->next;
    free(n);
}

static void look_at_newcomer(struct acceptor *a, struct newcomer *n, bool no_more)
{
    const struct newcomer it = *n;
    int what = look(n->fd, no_more);

    if (what == UNDECIDED)
        return;
    forget(a, n);
    if (what == GONE)
        close_newcomer(it.connection, it.fd);
    else
        a->options.take(a->options.ctx, it.connection, it.fd, what == HTTP2);
}

/* Edges: a level would be told again and again of "PR" with nothing behind it. */
static void wait_for_bytes(struct acceptor *a, struct connection *c, int fd)
{
    struct newcomer *n = xcalloc(1, sizeof(*n));
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = n};

    *n = (struct newcomer){.connection = c, .fd = fd, .next = a->first};
    if (n->next != NULL)
        n->next->previous = n;
    a->first = n;
    if (epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        forget(a, n);
        close_newcomer(c, fd);
    }
}

static void welcome(struct acceptor *a, int fd)
{
    struct connection *c = connections_add(a->options.connections, fd);
    int what = look(fd, false);

    if (what == HTTP1 || what == HTTP2)
        a->options.take(a->options.ctx, c, fd, what == HTTP2);
    else
        wait_for_bytes(a, c, fd);
}

/* ---- the thread ---- */

static void accept_some(struct acceptor *a)
{
    for (int i = 0; i < BATCH; i++) {
        if (connections_count(a->options.connections) >= a->options.most) {
            poll(NULL, 0, FULL_MS);
            return;
        }
        int fd = accept4(a->options.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            welcome(a, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            poll(NULL, 0, NO_DESCRIPTORS_MS); /* or it would be tried again at once */
        if (fd < 0)
            return;
    }
}

static bool woken(struct acceptor *a)
{
    uint64_t count;

    if (read(a->wake, &count, sizeof(count)) < 0)
        return true;
    pthread_mutex_lock(&a->mutex);
    if (a->quiesce && !a->quiet) {
        epoll_ctl(a->epoll, EPOLL_CTL_DEL, a->options.listen_fd, NULL);
        a->accepting = false;
        a->quiet = true;
        pthread_cond_signal(&a->changed);
    }
    bool go_on = !a->stop;
    pthread_mutex_unlock(&a->mutex);
    return go_on;
}

static void *acceptor_main(void *arg)
{
    struct acceptor *a = arg;
    struct epoll_event events[64];
    bool go_on = true;

    while (go_on) {
        int count = epoll_wait(a->epoll, events, ARRAY_SIZE(events), -1);
        bool waiting = false;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &a->wake)
                go_on = woken(a);
            else if (events[i].data.ptr == &a->options)
                waiting = true;
            else
                look_at_newcomer(a, events[i].data.ptr,
                                 (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
        }
        if (waiting && a->accepting)
            accept_some(a);
    }
    return NULL;
}

/* ---- starting and stopping ---- */

static bool watch(struct acceptor *a, int fd, void *as)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = as};

    return fd >= 0 && epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void free_acceptor(struct acceptor *a)
{
    cleanup_close(&a->epoll);
    cleanup_close(&a->wake);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->mutex);
    free(a);
}

struct acceptor *acceptor_start(const struct acceptor_options *options, struct error *err)
{
    struct acceptor *a = xcalloc(1, sizeof(*a));

    a->options = *options;
    a->accepting = true;
    pthread_mutex_init(&a->mutex, NULL);
    pthread_cond_init(&a->changed, NULL);
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->wake = eventfd(0, EFD_CLOEXEC);
    if (!watch(a, options->listen_fd, &a->options) || !watch(a, a->wake, &a->wake)) {
        error_set(err, ERROR_OVERLOADED, "cannot wait for connections: %s", strerror(errno));
    } else if (thread_start(&a->thread, acceptor_main, a, err)) {
        return a;
    }
    free_acceptor(a);
    return NULL;
}

static void tell(struct acceptor *a, bool stop)
{
    const uint64_t one = 1;

    pthread_mutex_lock(&a->mutex);
    a->quiesce = true;
    a->stop = stop;
    ssize_t written = write(a->wake, &one, sizeof(one));
    while (written == sizeof(one) && !a->quiet)
        pthread_cond_wait(&a->changed, &a->mutex);
    pthread_mutex_unlock(&a->mutex);
}

void acceptor_quiesce(struct acceptor *a)
{
    tell(a, false);
}

void acceptor_stop(struct acceptor *a)
{
    tell(a, true);
    pthread_join(a->thread, NULL);
    while (a->first != NULL) {
        const struct newcomer it = *a->first;
        forget(a, a->first);
        close_newcomer(it.connection, it.fd);
    }
    free_acceptor(a);
}
