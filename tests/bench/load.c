/* The load client: see load_options.c for what it does. */
#include "load.h"

#include "program.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>

struct load {
    struct load_options options;
    struct load_body *bodies;
    size_t body_count;
    struct exchange *connections;
    int epoll;
    struct results results;
    FILE *replies;
    struct sockaddr_in server;
    uint64_t run, counter;
    long begun;
    int busy;
    struct exchange **idle; /* open loop: those without a request, the last one used last */
    double start_s;
    bool measuring, over;
    struct load_stats stats;
};

static double cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void start_measuring(struct load *l, double now)
{
    l->measuring = true;
    l->stats.from_s = now;
    l->stats.cpu_from_s = cpu_s();
}

static void stop_measuring(struct load *l, double now)
{
    l->over = true;
    l->stats.to_s = now;
    l->stats.cpu_to_s = cpu_s();
}

static bool may_begin(const struct load *l)
{
    return !l->over && (l->options.count == 0 || l->begun < l->options.count);
}

static void begin(struct load *l, struct exchange *x)
{
    const struct load_body *body = &l->bodies[l->counter % l->body_count];

    load_body_put(body, l->run, l->counter, x);
    x->tag = (uint64_t)(x - l->connections);
    l->counter++;
    l->begun++;
    exchange_begin(x, &l->server);
    if (x->state == EXCHANGE_FAILED)
        die("port %d: no connection", l->options.port);
}

/* Open loop: begin what is due, as long as there are connections; what finds none goes later, and
 * its latency counts from its own time all the same. The milliseconds until the next is due. */
static int begin_due(struct load *l, double now)
{
    double left_s = 1;

    while (may_begin(l)) {
        double due = l->start_s + (double)l->begun / l->options.rate;
        struct exchange *x;

        left_s = due - now;
        if (left_s > 0 || l->busy == l->options.connections)
            break;
        x = l->idle[l->options.connections - ++l->busy];
        begin(l, x);
        x->started_s = due;
        if (l->measuring)
            load_times_add(&l->stats.late, now - due);
    }
    return left_s <= 0 || left_s > 0.02 ? 20 : (int)(left_s * 1e3) + 1;
}

/* A request has ended as it should, its result included where that is waited for. What ends within
 * the window makes the throughput. Latency is of what began in it, however late it ends: otherwise
 * the slow ones would be left out. */
static void succeed(struct load *l, struct exchange *x)
{
    if (!l->measuring)
        return;
    if (!l->over)
        l->stats.requests++;
    if (x->started_s >= l->stats.from_s)
        load_times_add(&l->stats.latency, now_s() - x->started_s);
}

/* At any time: nothing may fail. */
static void fail(struct load *l, int status)
{
    l->stats.failures[status > 0 && status < LOAD_STATUS_MAX ? status : 0]++;
    l->stats.failed++;
}

static void refused(struct load *l, const struct exchange *x)
{
    if (exchange_field(x, "\r\nRetry-After:") == NULL)
        l->stats.without_retry_after++;
    if (l->measuring && x->started_s >= l->stats.from_s)
        load_times_add(&l->stats.refused, now_s() - x->started_s);
}

static void next(struct load *l, struct exchange *x)
{
    l->stats.answered++;
    x->state = EXCHANGE_IDLE;
    if (l->options.rate > 0)
        l->idle[l->options.connections - l->busy--] = x;
    else if (may_begin(l))
        begin(l, x);
    else
        l->busy--;
}

static void on_stored(void *ctx, uint64_t tag)
{
    struct load *l = ctx;

    succeed(l, &l->connections[tag]);
    next(l, &l->connections[tag]);
}

/* The id in the reply of /preprocess; NULL if there is none. */
static const char *reply_id(const char *body)
{
    const char *id = strstr(body, "\"id\"");

    id = id != NULL ? strchr(id + 4, '"') : NULL;
    return id != NULL && strcspn(id + 1, "\"") == RESULTS_ID_LEN ? id + 1 : NULL;
}

/* True when the connection is to go on with the next request. */
static bool take_reply(struct load *l, struct exchange *x)
{
    const char *body = exchange_body(x);
    const char *id;

    if (x->status == 503 && l->options.rate > 0) {
        refused(l, x);
        return true;
    }
    if (x->status != 200) {
        fail(l, x->status);
        return true;
    }
    if (l->replies != NULL)
        fprintf(l->replies, "%.*s\n", (int)strcspn(body, "\r\n"), body);
    if (l->options.results == NULL) {
        succeed(l, x);
        return true;
    }
    id = reply_id(body);
    if (id == NULL) {
        fail(l, 0);
        return true;
    }
    bool stored = results_expect(&l->results, id, x->tag);
    if (stored)
        succeed(l, x);
    return stored;
}

static void advance(struct load *l, struct exchange *x, uint32_t events)
{
    exchange_go_on(x, events);
    if (x->state == EXCHANGE_FAILED) {
        fail(l, 0);
        next(l, x);
    } else if (x->state == EXCHANGE_REPLIED) {
        x->state = EXCHANGE_IDLE;
        if (take_reply(l, x))
            next(l, x);
    }
}

static void begin_all(struct load *l)
{
    l->start_s = now_s();
    if (l->options.warmup == 0)
        start_measuring(l, l->start_s);
    for (int i = 0; i < l->options.connections; i++) {
        if (l->options.rate > 0) {
            l->idle[i] = &l->connections[i];
        } else if (may_begin(l)) {
            begin(l, &l->connections[i]);
            l->busy++;
        }
    }
}

static void run(struct load *l)
{
    struct epoll_event events[64];
    double start = l->start_s, end = start + l->options.warmup + l->options.seconds;
    int wait_ms = 20;

    while (l->busy > 0 || (l->options.rate > 0 && !l->over)) { /* until what was begun has ended */
        int n = epoll_wait(l->epoll, events, 64, wait_ms);
        double now = now_s();

        if (n < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        if (!l->measuring && now >= start + l->options.warmup)
            start_measuring(l, now);
        if (l->options.count == 0 && !l->over && now >= end)
            stop_measuring(l, now);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                results_read(&l->results, on_stored, l);
            else
                advance(l, events[i].data.ptr, events[i].events);
        }
        if (l->options.rate > 0)
            wait_ms = begin_due(l, now);
        if (now > start + l->options.timeout) {
            fprintf(stderr, "given up after %.0f s: %ld of %ld requests have ended\n",
                    l->options.timeout, l->stats.answered, l->begun);
            exit(3);
        }
    }
    if (!l->over)
        stop_measuring(l, now_s());
}

static void open_all(struct load *l)
{
    const struct load_options *o = &l->options;

    l->bodies = load_bodies_make(o, &l->body_count);
    l->server = (struct sockaddr_in){.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)o->port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->replies = o->replies != NULL ? fopen(o->replies, "we") : NULL;
    if (l->epoll < 0 || (o->replies != NULL && l->replies == NULL))
        die("%s", strerror(errno));
    if (getrandom(&l->run, sizeof(l->run), 0) != (ssize_t)sizeof(l->run))
        die("no randomness");
    if (o->results != NULL) {
        struct epoll_event event = {.events = EPOLLIN};

        results_open(&l->results, o->results);
        epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->results.fd, &event);
    }
    l->connections = allocate((size_t)o->connections * sizeof(*l->connections));
    l->idle = allocate((size_t)o->connections * sizeof(struct exchange *));
    for (int i = 0; i < o->connections; i++)
        exchange_init(&l->connections[i], l->epoll);
}

static void close_all(struct load *l)
{
    for (int i = 0; i < l->options.connections; i++)
        exchange_done(&l->connections[i]);
    free(l->connections);
    free(l->idle);
    if (l->options.results != NULL)
        results_close(&l->results);
    if (l->replies != NULL)
        fclose(l->replies);
    load_bodies_free(l->bodies, l->body_count);
}

int main(int argc, char **argv)
{
    struct load load = {.options = load_options_read(argc, argv)};

    open_all(&load);
    begin_all(&load);
    run(&load);
    load_stats_print(&load.stats, &load.options);
    close_all(&load);
    return 0;
}
