#include "http/connections.h"

#include "base/clock.h"
#include "base/threads.h"
#include "http/refusal.h"
#include "http/request.h"

#include <linux/tcp.h> /* newer than netinet/tcp.h */
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    TICK_MS = 250,
    FRESH_MS = 100,
    IDLE_LOOK_MS = 1000,
    HEADERS_MS = 10000,
    IDLE_MS = 60000,
    BODY_PAUSE_MS = 5000,
    BODY_GRACE_MS = 2000,
    RATE_BYTES_PER_MS = 16, /* 16 KiB/s, nearly */
    REPLY_MS = 30000,
    LINGERERS_MAX = 64,
    LINGER_BYTES_MIN = 64 * 1024 * 1024,
    CHARGE_STEP = 65536,
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
    int fd;

    pthread_mutex_t mutex; /* guards what follows */
    enum phase phase;
    int64_t since_ms;      /* when the phase began */
    int64_t last_byte_ms;  /* PHASE_BODY */
    int64_t until_ms;      /* PHASE_REPLY, PHASE_REFUSED: shut down then */
    int64_t headers_ms;    /* PHASE_IDLE: when the first byte of a request was seen, or 0 */
    int64_t look_ms;       /* PHASE_IDLE: when to look for one next */
    uint64_t bytes_before; /* PHASE_IDLE: bytes received by the last reply */
    struct buffer body;
    int64_t charged;
    int refused_status;
    bool served; /* has had a request already */
    char request_id[REQUEST_ID_MAX + 1];
};

struct connections {
    struct connections_options options;
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

/* Bytes received on a socket so far: tcp(7), TCP_INFO, Linux >= 4.1. 0 where unknown. */
static uint64_t bytes_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    /* an older kernel fills in less and leaves the rest zero */
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_bytes_received : 0;
}

static void enter(struct connection *c, enum phase phase)
{
    if (c->phase < PHASE_REFUSED && phase >= PHASE_REFUSED)
        atomic_fetch_add(&c->all->leaving, 1);
    c->phase = phase;
    c->since_ms = clock_monotonic_ms();
}

static void drop_body(struct connection *c)
{
    buffer_done(&c->body);
    byte_budget_give(c->all->options.budget, c->charged);
    c->charged = 0;
}

static void shut_down(struct connection *c)
{
    enter(c, PHASE_CLOSING);
    shutdown(c->fd, SHUT_RDWR);
}

/* Answer from outside the connection's own thread, which is waiting for bytes and not writing. */
static void refuse(struct connection *c, enum error_code code, const char *message)
{
    struct error err;

    error_set(&err, code, "%s", message);
    refusal_send(c->fd, &err, c->request_id);
    drop_body(c);
    c->refused_status = error_http_status(code);
    enter(c, PHASE_REFUSED);
    c->until_ms = c->since_ms + REFUSAL_LINGER_MS;
}

static void reap_idle(struct connection *c, int64_t now)
{
    if (now - c->since_ms > IDLE_MS) {
        shut_down(c);
        return;
    }
    if (now < c->look_ms)
        return;
    c->look_ms = now + IDLE_LOOK_MS; /* a system call per connection: once a second will do */
    uint64_t received = bytes_received(c->fd);
    if (c->headers_ms == 0 && received > c->bytes_before)
        c->headers_ms = now;
    if (c->headers_ms != 0 && now - c->headers_ms > HEADERS_MS)
        refuse(c, ERROR_TOO_SLOW, "the request's headers did not arrive within 10 s");
}

static void reap_body(struct connection *c, int64_t now)
{
    int64_t age = now - c->since_ms;

    if (now >= c->all->cut_ms)
        refuse(c, ERROR_SHUTTING_DOWN, "shutting down");
    else if (now - c->last_byte_ms > BODY_PAUSE_MS)
        refuse(c, ERROR_TOO_SLOW, "no byte of the body arrived for 5 s");
    else if (age > BODY_GRACE_MS && (int64_t)c->body.len < age * RATE_BYTES_PER_MS)
        refuse(c, ERROR_TOO_SLOW, "the body arrived at less than 16 KiB/s");
}

static void reap(struct connection *c, int64_t now)
{
    pthread_mutex_lock(&c->mutex);
    switch (c->phase) {
    case PHASE_IDLE:
        reap_idle(c, now);
        break;
    case PHASE_BODY:
        reap_body(c, now);
        break;
    case PHASE_REPLY:
    case PHASE_REFUSED:
        if (now > c->until_ms)
            shut_down(c);
        break;
    case PHASE_HANDLING:
    case PHASE_LINGER:
    case PHASE_CLOSING:
        break;
    }
    pthread_mutex_unlock(&c->mutex);
}

static void *reaper_main(void *arg)
{
    struct connections *all = arg;

    pthread_mutex_lock(&all->mutex);
    while (!all->stopping) {
        int64_t now = clock_monotonic_ms();
        for (struct connection *c = all->first; c != NULL; c = c->next)
            reap(c, now);
        int64_t next = now + TICK_MS;
        if (all->cut_ms > now && all->cut_ms < next)
            next = all->cut_ms;
        struct timespec until = clock_timespec(next);
        pthread_cond_timedwait(&all->changed, &all->mutex, &until);
    }
    pthread_mutex_unlock(&all->mutex);
    return NULL;
}

struct connections *connections_new(const struct connections_options *options, struct error *err)
{
    struct connections *all = calloc(1, sizeof(*all));

    if (all == NULL) {
        error_oom(err);
        return NULL;
    }
    all->options = *options;
    all->cut_ms = INT64_MAX;
    pthread_mutex_init(&all->mutex, NULL);
    thread_cond_init(&all->changed);
    if (!thread_start(&all->reaper, reaper_main, all, err)) {
        pthread_cond_destroy(&all->changed);
        pthread_mutex_destroy(&all->mutex);
        free(all);
        return NULL;
    }
    return all;
}

void connections_free(struct connections *all)
{
    if (all == NULL)
        return;
    pthread_mutex_lock(&all->mutex);
    all->stopping = true;
    pthread_cond_signal(&all->changed);
    pthread_mutex_unlock(&all->mutex);
    pthread_join(all->reaper, NULL);
    pthread_cond_destroy(&all->changed);
    pthread_mutex_destroy(&all->mutex);
    free(all);
}

int connections_count(struct connections *all)
{
    pthread_mutex_lock(&all->mutex);
    int count = all->count;
    pthread_mutex_unlock(&all->mutex);
    return count;
}

bool connections_over_limit(struct connections *all)
{
    return connections_count(all) - atomic_load(&all->leaving) > all->options.max_connections;
}

/* Has only just connected, and is about to send a request. */
static bool is_fresh(const struct connection *c)
{
    return c->phase == PHASE_IDLE && !c->served && clock_monotonic_ms() - c->since_ms < FRESH_MS;
}

/* Whether a request is on its way in, being handled or being answered. */
static bool is_busy(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    bool busy = c->phase != PHASE_CLOSING;
    if (c->phase == PHASE_IDLE)
        busy = is_fresh(c) || bytes_received(c->fd) > c->bytes_before;
    pthread_mutex_unlock(&c->mutex);
    return busy;
}

bool connections_any_busy(struct connections *all)
{
    bool busy = false;

    pthread_mutex_lock(&all->mutex);
    for (struct connection *c = all->first; c != NULL && !busy; c = c->next)
        busy = is_busy(c);
    pthread_mutex_unlock(&all->mutex);
    return busy;
}

void connections_cut_bodies(struct connections *all, int64_t deadline_ms)
{
    pthread_mutex_lock(&all->mutex);
    all->cut_ms = deadline_ms;
    pthread_cond_signal(&all->changed);
    pthread_mutex_unlock(&all->mutex);
}

/* End the connection that has been the longest in one of these phases. Called with the list locked.
 */
static bool evict_oldest(struct connections *all, enum phase from, enum phase to)
{
    struct connection *oldest = NULL;
    int64_t since = INT64_MAX;

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        pthread_mutex_lock(&c->mutex);
        if (c->phase >= from && c->phase <= to && c->since_ms <= since) {
            oldest = c;
            since = c->since_ms;
        }
        pthread_mutex_unlock(&c->mutex);
    }
    if (oldest == NULL)
        return false;
    pthread_mutex_lock(&oldest->mutex);
    bool still = oldest->phase >= from && oldest->phase <= to;
    if (still)
        shut_down(oldest);
    pthread_mutex_unlock(&oldest->mutex);
    return still;
}

/* Room for one more, before the new one is in the list. The milliseconds to hold it back: evicted
 * connections take a moment to go, and at libmicrohttpd's own limit it resets what it accepts. */
static int make_room(struct connections *all)
{
    int64_t above = all->count - all->options.max_connections;
    bool evicted = false;

    /* more than one where busy ones took up spare places and are idle now */
    while (above >= atomic_load(&all->leaving) && evict_oldest(all, PHASE_IDLE, PHASE_IDLE))
        evicted = true;
    if (above < CONNECTIONS_SPARE / 2)
        return 0;
    return evicted || evict_oldest(all, PHASE_REFUSED, PHASE_LINGER)
               ? (int)(above - CONNECTIONS_SPARE / 2) + 1
               : 0;
}

struct connection *connections_add(struct connections *all, int fd)
{
    struct connection *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->all = all;
    c->fd = fd;
    c->body.max = (size_t)all->options.max_body_bytes;
    pthread_mutex_init(&c->mutex, NULL);
    memcpy(c->request_id, "-", 2);
    enter(c, PHASE_IDLE);

    pthread_mutex_lock(&all->mutex);
    int wait_ms = make_room(all);
    c->next = all->first;
    if (c->next != NULL)
        c->next->previous = c;
    all->first = c;
    all->count++;
    pthread_mutex_unlock(&all->mutex);
    if (wait_ms > 0)
        poll(NULL, 0, wait_ms);
    return c;
}

void connections_remove(struct connection *c)
{
    struct connections *all = c->all;

    pthread_mutex_lock(&all->mutex);
    if (c->next != NULL)
        c->next->previous = c->previous;
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        all->first = c->next;
    all->count--;
    if (c->phase >= PHASE_REFUSED)
        atomic_fetch_sub(&all->leaving, 1);
    pthread_mutex_unlock(&all->mutex);
    drop_body(c);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

void connection_begin_body(struct connection *c, const char *request_id)
{
    pthread_mutex_lock(&c->mutex);
    snprintf(c->request_id, sizeof(c->request_id), "%s", request_id);
    if (c->phase == PHASE_IDLE)
        enter(c, PHASE_BODY);
    c->last_byte_ms = c->since_ms;
    c->body.max = (size_t)c->all->options.max_body_bytes;
    pthread_mutex_unlock(&c->mutex);
}

/* The budget is full: end the body that has the lowest rate so far. False when there is none, else
 * it is worth trying again. */
static bool evict_slowest_body(struct connections *all)
{
    const struct byte_budget *budget = all->options.budget;
    struct connection *slowest = NULL;
    double lowest = 0;
    int64_t now = clock_monotonic_ms();

    pthread_mutex_lock(&all->mutex);
    if (budget->max - atomic_load(&budget->used) >= CHARGE_STEP) { /* another one made room */
        pthread_mutex_unlock(&all->mutex);
        return true;
    }
    for (struct connection *c = all->first; c != NULL; c = c->next) {
        pthread_mutex_lock(&c->mutex);
        double rate = (double)c->body.len / (double)(now - c->since_ms + 1);
        if (c->phase == PHASE_BODY && c->charged > 0 && (slowest == NULL || rate < lowest)) {
            slowest = c;
            lowest = rate;
        }
        pthread_mutex_unlock(&c->mutex);
    }
    if (slowest != NULL) {
        pthread_mutex_lock(&slowest->mutex);
        if (slowest->phase == PHASE_BODY) /* it may have just become complete */
            refuse(slowest, ERROR_OVERLOADED, "too many bytes are being received at once");
        pthread_mutex_unlock(&slowest->mutex);
    }
    pthread_mutex_unlock(&all->mutex);
    return slowest != NULL;
}

/* Called locked. */
static bool charge(struct connection *c, size_t len)
{
    while (c->charged < (int64_t)len) {
        if (!byte_budget_take(c->all->options.budget, CHARGE_STEP))
            return false;
        c->charged += CHARGE_STEP;
    }
    return true;
}

enum connection_append connection_append_body(struct connection *c, const void *data, size_t len,
                                              struct error *err)
{
    bool charged = false;

    for (;;) {
        pthread_mutex_lock(&c->mutex);
        if (c->phase != PHASE_BODY) {
            pthread_mutex_unlock(&c->mutex);
            return CONNECTION_ANSWERED;
        }
        charged = len > c->body.max - c->body.len || charge(c, c->body.len + len);
        if (charged)
            break;
        pthread_mutex_unlock(&c->mutex);
        if (!evict_slowest_body(c->all)) {
            error_set(err, ERROR_OVERLOADED, "too many bytes are being received at once");
            return CONNECTION_FAILED;
        }
    }
    bool ok = buffer_append(&c->body, data, len, err);
    c->last_byte_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&c->mutex);
    if (!ok && err->code == ERROR_TOO_LARGE)
        error_set(err, ERROR_TOO_LARGE, "the body is larger than %lld bytes",
                  (long long)c->all->options.max_body_bytes);
    return ok ? CONNECTION_APPENDED : CONNECTION_FAILED;
}

void connection_refuse(struct connection *c, const struct error *err)
{
    pthread_mutex_lock(&c->mutex);
    if (c->phase == PHASE_BODY)
        refuse(c, err->code, err->message);
    pthread_mutex_unlock(&c->mutex);
}

bool connection_begin_handling(struct connection *c, struct bytes *ret)
{
    pthread_mutex_lock(&c->mutex);
    bool ok = c->phase == PHASE_BODY;
    if (ok) {
        enter(c, PHASE_HANDLING);
        *ret = buffer_view(&c->body);
    }
    pthread_mutex_unlock(&c->mutex);
    return ok;
}

void connection_drop_body(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    drop_body(c);
    pthread_mutex_unlock(&c->mutex);
}

void connection_begin_reply(struct connection *c, size_t len)
{
    pthread_mutex_lock(&c->mutex);
    if (c->phase < PHASE_REFUSED)
        enter(c, PHASE_REPLY);
    /* here, since the next request's first bytes may come as soon as the reply is out */
    c->bytes_before = bytes_received(c->fd);
    c->until_ms = c->since_ms + REPLY_MS + (int64_t)(len / RATE_BYTES_PER_MS);
    pthread_mutex_unlock(&c->mutex);
}

void connection_end_request(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    drop_body(c);
    c->served = true;
    if (c->phase == PHASE_HANDLING || c->phase == PHASE_REPLY || c->phase == PHASE_BODY) {
        enter(c, PHASE_IDLE);
        c->headers_ms = 0;
    }
    pthread_mutex_unlock(&c->mutex);
}

/* How much of what a refused client still sends is discarded. */
static int64_t linger_bytes(const struct connections *all)
{
    int64_t most = 2 * all->options.max_body_bytes;

    return most > LINGER_BYTES_MIN ? most : LINGER_BYTES_MIN;
}

void connection_linger(struct connection *c)
{
    struct connections *all = c->all;

    pthread_mutex_lock(&c->mutex);
    drop_body(c);
    if (c->phase < PHASE_REFUSED)
        enter(c, PHASE_LINGER);
    pthread_mutex_unlock(&c->mutex);
    if (atomic_fetch_add(&all->lingerers, 1) < LINGERERS_MAX)
        refusal_linger(c->fd, linger_bytes(all));
    atomic_fetch_sub(&all->lingerers, 1);
}

int connection_refused_status(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    int status = c->refused_status;
    pthread_mutex_unlock(&c->mutex);
    return status;
}
