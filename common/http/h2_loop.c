#include "http/h2_loop.h"

#include "base/clock.h"
#include "base/threads.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { TICK_MS = 250 };

/* A connection that the acceptor has handed over. */
struct h2_newcomer {
    struct connection *connection;
    int fd;
    struct h2_newcomer *next;
};

/* ---- from other threads ---- */

static void wake_loop(struct h2 *h2)
{
    const uint64_t one = 1;

    if (write(h2->wake, &one, sizeof(one)) < 0)
        return; /* the counter is full: the loop is awake */
}

void h2_make_ready(struct h2_stream *s, bool handled)
{
    struct h2 *h2 = s->h2; /* once it is in the queue, it may be freed */

    pthread_mutex_lock(&h2->mutex);
    bool first = h2->ready == NULL;
    s->handled = s->handled || handled;
    if (!s->queued) {
        s->queued = true;
        s->next_ready = h2->ready;
        h2->ready = s;
    }
    pthread_mutex_unlock(&h2->mutex);
    if (first)
        wake_loop(h2);
}

void h2_not_ready(struct h2_stream *s)
{
    pthread_mutex_lock(&s->h2->mutex);
    if (s->queued) {
        struct h2_stream **at = &s->h2->ready;
        while (*at != s)
            at = &(*at)->next_ready;
        *at = s->next_ready;
    }
    pthread_mutex_unlock(&s->h2->mutex);
}

void h2_take(struct h2 *h2, struct connection *c, int fd)
{
    struct h2_newcomer *n = xcalloc(1, sizeof(*n));

    *n = (struct h2_newcomer){.connection = c, .fd = fd};
    pthread_mutex_lock(&h2->mutex);
    n->next = h2->newcomers;
    h2->newcomers = n;
    pthread_mutex_unlock(&h2->mutex);
    wake_loop(h2);
}

/* ---- the loop's thread ---- */

static void begin_session(struct h2 *h2, struct connection *c, int fd, bool draining)
{
    struct epoll_event event = {.events = EPOLLIN};
    const int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    connection_speaks_http2(c);
    struct h2_session *session = h2_session_new(h2, c, fd);
    event.data.ptr = session;
    if (session == NULL || epoll_ctl(h2->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        if (session != NULL)
            h2_session_free(session);
        connections_remove(c);
        close(fd);
        return;
    }
    session->next = h2->sessions;
    if (session->next != NULL)
        session->next->previous = session;
    h2->sessions = session;
    if (draining) /* without a notice: a client of gRPC would then ask nothing, not even for health
                   */
        session->drain_ms = session->since_ms;
    h2_session_touch(session);
}

static void end_session(struct h2_session *session)
{
    struct connection *c = session->connection;
    int fd = session->fd;

    if (session->next != NULL)
        session->next->previous = session->previous;
    if (session->previous != NULL)
        session->previous->next = session->next;
    else
        session->h2->sessions = session->next;
    h2_session_free(session);
    connections_remove(c);
    close(fd);
}

/* The stream that is ready next, out of the queue. */
static struct h2_stream *next_ready(struct h2 *h2, bool *handled)
{
    pthread_mutex_lock(&h2->mutex);
    struct h2_stream *s = h2->ready;
    if (s != NULL) {
        h2->ready = s->next_ready;
        *handled = s->handled;
        s->queued = s->handled = false;
    }
    pthread_mutex_unlock(&h2->mutex);
    return s;
}

static void look_at_ready(struct h2 *h2)
{
    struct h2_stream *s;
    struct h2_session *session;
    bool handled;

    while ((s = next_ready(h2, &handled)) != NULL)
        h2_stream_ready(s, handled);
    while ((session = h2->dirty) != NULL) {
        h2->dirty = session->next_dirty;
        session->dirty = false;
        if (!h2_session_flush(session))
            end_session(session);
    }
}

/* Who is new; and what server.c wants. */
static bool look_at_orders(struct h2 *h2, bool *draining)
{
    uint64_t count;

    if (read(h2->wake, &count, sizeof(count)) < 0)
        return true;
    pthread_mutex_lock(&h2->mutex);
    struct h2_newcomer *n = TAKE_PTR(h2->newcomers);
    bool drain = h2->draining && !*draining, stopping = h2->stopping;
    *draining = h2->draining;
    pthread_mutex_unlock(&h2->mutex);
    for (struct h2_session *s = drain ? h2->sessions : NULL; s != NULL; s = s->next) {
        for (struct h2_stream *stream = s->streams; stream != NULL; stream = stream->next)
            h2_stream_drain(stream);
        h2_session_drain(s);
        h2_session_touch(s);
    }
    while (n != NULL) {
        struct h2_newcomer *next = n->next;
        begin_session(h2, n->connection, n->fd, *draining);
        free(n);
        n = next;
    }
    return !stopping;
}

static void look_at_clocks(struct h2 *h2)
{
    int64_t now = clock_monotonic_ms();

    for (struct h2_session *session = h2->sessions, *next; session != NULL; session = next) {
        next = session->next;
        if (!h2_session_look(session, now))
            end_session(session);
    }
}

static void serve(struct h2_session *session, uint32_t events)
{
    bool ok = true;

    if ((events & EPOLLOUT) != 0)
        ok = h2_session_flush(session);
    if (ok && (events & ~(uint32_t)EPOLLOUT) != 0)
        ok = h2_session_read(session);
    if (!ok)
        end_session(session);
}

/* Until all handlers have returned. */
static void finish(struct h2 *h2)
{
    for (struct h2_session *session = h2->sessions, *next; session != NULL; session = next) {
        next = session->next;
        h2_session_end(session);
        bool sent = h2_session_flush(session);
        (void)sent; /* or not: it ends here */
        end_session(session);
    }
    handler_threads_free(h2->handlers);
    look_at_ready(h2);
}

static void *h2_main(void *arg)
{
    struct h2 *h2 = arg;
    struct epoll_event events[64];
    int64_t tick_ms = 0;
    bool draining = false, go_on = true;

    while (go_on) {
        int wait_ms = h2->sessions != NULL ? TICK_MS : -1;
        int count = epoll_wait(h2->epoll, events, ARRAY_SIZE(events), wait_ms);
        bool orders = false;
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == h2)
                orders = true;
            else
                serve(events[i].data.ptr, events[i].events);
        }
        if (orders)
            go_on = look_at_orders(h2, &draining);
        look_at_ready(h2);
        if (clock_left_ms(tick_ms) == 0) {
            look_at_clocks(h2);
            look_at_ready(h2);
            tick_ms = clock_monotonic_ms() + TICK_MS;
        }
    }
    finish(h2);
    return NULL;
}

/* ---- starting and stopping ---- */

static void free_h2(struct h2 *h2)
{
    cleanup_close(&h2->epoll);
    cleanup_close(&h2->wake);
    pthread_mutex_destroy(&h2->mutex);
    free(h2);
}

struct h2 *h2_start(struct admission *admission, struct error *err)
{
    struct h2 *h2 = xcalloc(1, sizeof(*h2));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = h2};

    h2->admission = admission;
    pthread_mutex_init(&h2->mutex, NULL);
    h2->epoll = epoll_create1(EPOLL_CLOEXEC);
    h2->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h2->handlers = handler_threads_new(admission->options->max_inflight + ADMISSION_WATCHES_MAX);
    if (h2->epoll < 0 || h2->wake < 0 || epoll_ctl(h2->epoll, EPOLL_CTL_ADD, h2->wake, &event) != 0)
        error_set(err, ERROR_OVERLOADED, "cannot wait for HTTP/2: %s", strerror(errno));
    else if (thread_start(&h2->thread, h2_main, h2, err))
        return h2;
    handler_threads_free(h2->handlers);
    free_h2(h2);
    return NULL;
}

static void order(struct h2 *h2, bool stop)
{
    pthread_mutex_lock(&h2->mutex);
    h2->draining = true;
    h2->stopping = stop;
    pthread_mutex_unlock(&h2->mutex);
    wake_loop(h2);
}

void h2_drain(struct h2 *h2)
{
    order(h2, false);
}

void h2_stop(struct h2 *h2)
{
    if (h2 == NULL)
        return;
    order(h2, true);
    pthread_join(h2->thread, NULL);
    free_h2(h2);
}
