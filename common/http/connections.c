#include "http/connections.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "http/connection.h"
#include "http/reaper.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
    FRESH_MS = 100,
    REPLY_MS = 30000,
    LINGERERS_MAX = 64,
    LINGER_BYTES_MIN = 64 * 1024 * 1024,
};

/* ---- all of them ---- */

struct connections *connections_new(const struct connections_options *options, struct error *err)
{
    struct connections *all = xcalloc(1, sizeof(*all));

    all->max_connections = options->max_connections;
    all->max_body_bytes = options->max_body_bytes;
    all->body_stall_ms = options->body_stall_ms;
    all->body_min_rate = options->body_min_rate;
    all->budget = options->budget;
    all->cut_ms = INT64_MAX;
    pthread_mutex_init(&all->mutex, NULL);
    pthread_cond_init(&all->changed, NULL);
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
    while (all->first != NULL) /* libmicrohttpd stopped before it had begun with it */
        connections_remove(all->first);
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
    return connections_count(all) - atomic_load(&all->leaving) > all->max_connections;
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
    if (c->phase == PHASE_IDLE && c->wake == NULL)
        busy = is_fresh(c) || (!c->http2 && connection_bytes_received(c) > c->bytes_before);
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

bool connections_end_slow_body(struct connections *all)
{
    const struct eviction which = {.places = true,
                                   .age_ms = CONNECTION_BODY_GRACE_MS,
                                   .bytes_per_ms = CONNECTION_RATE_BYTES_PER_MS,
                                   .why = "the place of a slow body was needed"};

    pthread_mutex_lock(&all->mutex);
    bool ended = reaper_evict_body(all, &which);
    pthread_mutex_unlock(&all->mutex);
    return ended;
}

bool connections_take_bytes(struct connections *all, int64_t n)
{
    bool taken = byte_budget_take(all->budget, n);

    while (!taken && reaper_make_room_for_body(all))
        taken = byte_budget_take(all->budget, n);
    return taken;
}

/* ---- one of them ---- */

static void read_peer(struct connection *c)
{
    static const char mapped[] = "::ffff:"; /* IPv4 on a socket for both */
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof(at);
    const void *address = NULL;

    if (getpeername(c->fd, (struct sockaddr *)&at, &len) != 0)
        return;
    if (at.ss_family == AF_INET)
        address = &((struct sockaddr_in *)&at)->sin_addr;
    else if (at.ss_family == AF_INET6)
        address = &((struct sockaddr_in6 *)&at)->sin6_addr;
    if (address == NULL || inet_ntop(at.ss_family, address, c->peer, sizeof(c->peer)) == NULL)
        return;
    if (string_starts_with(c->peer, mapped) && strchr(c->peer, '.') != NULL)
        memmove(c->peer, c->peer + strlen(mapped), strlen(c->peer + strlen(mapped)) + 1);
}

void connection_peer(const struct connection *c, char out[PEER_MAX])
{
    memcpy(out, c->peer, PEER_MAX);
}

static struct connection *make(struct connections *all, int fd)
{
    struct connection *c = xcalloc(1, sizeof(*c));

    c->all = all;
    c->fd = fd;
    if (fd >= 0)
        read_peer(c);
    c->body.max = (size_t)all->max_body_bytes;
    pthread_mutex_init(&c->mutex, NULL);
    memcpy(c->request_id, "-", 2);
    c->look = (struct refusal_look){.lines = ""};
    connection_enter(c, PHASE_IDLE);
    return c;
}

/* Called with the list locked. */
static void link_first(struct connection *c)
{
    c->next = c->all->first;
    if (c->next != NULL)
        c->next->previous = c;
    c->all->first = c;
}

struct connection *connections_add(struct connections *all, int fd)
{
    struct connection *c = make(all, fd);

    pthread_mutex_lock(&all->mutex);
    int wait_ms = reaper_make_room(all);
    link_first(c);
    all->count++;
    pthread_mutex_unlock(&all->mutex);
    if (wait_ms > 0)
        poll(NULL, 0, wait_ms);
    return c;
}

struct connection *connections_add_stream(struct connections *all, void (*wake)(void *ctx),
                                          void *ctx)
{
    struct connection *c = make(all, -1);

    c->wake = wake;
    c->wake_ctx = ctx;
    pthread_mutex_lock(&all->mutex);
    link_first(c);
    pthread_mutex_unlock(&all->mutex);
    return c;
}

struct connection *connections_find(struct connections *all, int fd)
{
    pthread_mutex_lock(&all->mutex);
    struct connection *c = all->first; /* new ones come first */
    while (c != NULL && c->fd != fd)
        c = c->next;
    pthread_mutex_unlock(&all->mutex);
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
    if (c->wake == NULL)
        all->count--;
    if (c->wake == NULL && c->phase >= PHASE_REFUSED)
        atomic_fetch_sub(&all->leaving, 1);
    pthread_mutex_unlock(&all->mutex);
    connection_release_body(c);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

void connection_set_look(struct connection *c, const struct refusal_look *look)
{
    pthread_mutex_lock(&c->mutex);
    c->look = *look;
    pthread_mutex_unlock(&c->mutex);
}

/* Called locked. */
static void expect(struct connection *c, size_t expected)
{
    size_t most = c->body.max < CONNECTION_EXPECT_MAX ? c->body.max : CONNECTION_EXPECT_MAX;

    c->expected = expected < most ? expected : most;
}

void connection_begin_body(struct connection *c, const char *request_id, int64_t expected)
{
    pthread_mutex_lock(&c->mutex);
    snprintf(c->request_id, sizeof(c->request_id), "%s", request_id);
    if (c->phase == PHASE_IDLE)
        connection_enter(c, PHASE_BODY);
    c->last_byte_ms = c->since_ms;
    c->body.max = (size_t)c->all->max_body_bytes;
    expect(c, (size_t)expected);
    pthread_mutex_unlock(&c->mutex);
}

void connection_has_place(struct connection *c, bool has)
{
    pthread_mutex_lock(&c->mutex);
    c->has_place = has;
    pthread_mutex_unlock(&c->mutex);
}

void connection_expect(struct connection *c, size_t expected)
{
    pthread_mutex_lock(&c->mutex);
    if (expected > 0 && c->body.cap == 0)
        expect(c, expected);
    pthread_mutex_unlock(&c->mutex);
}

/* Called locked. */
static bool charge(struct connection *c, size_t len)
{
    while (c->charged < (int64_t)len) {
        if (!byte_budget_take(c->all->budget, CONNECTION_CHARGE_STEP))
            return false;
        c->charged += CONNECTION_CHARGE_STEP;
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
        if (!reaper_make_room_for_body(c->all)) {
            error_set(err, ERROR_OVERLOADED, "too many bytes are being received at once");
            return CONNECTION_FAILED;
        }
    }
    size_t first = c->body.cap == 0 && c->expected > len ? c->expected : len;
    bool ok = buffer_reserve(&c->body, first, err) && buffer_append(&c->body, data, len, err);
    c->last_byte_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&c->mutex);
    if (!ok && err->code == ERROR_TOO_LARGE)
        error_set(err, ERROR_TOO_LARGE, "the body is larger than %lld bytes",
                  (long long)c->all->max_body_bytes);
    return ok ? CONNECTION_APPENDED : CONNECTION_FAILED;
}

void connection_is_read(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    c->is_read = true;
    pthread_mutex_unlock(&c->mutex);
}

void connection_awaits(struct connection *c, bool awaited)
{
    pthread_mutex_lock(&c->mutex);
    c->awaited = awaited;
    c->last_byte_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&c->mutex);
}

void connection_heard(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    c->last_byte_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&c->mutex);
}

void connection_refuse(struct connection *c, const struct error *err)
{
    pthread_mutex_lock(&c->mutex);
    if (c->phase == PHASE_BODY)
        connection_answer(c, err->code, err->message);
    pthread_mutex_unlock(&c->mutex);
}

bool connection_begin_handling(struct connection *c, struct bytes *ret)
{
    pthread_mutex_lock(&c->mutex);
    bool ok = c->phase == PHASE_BODY;
    if (ok) {
        connection_enter(c, PHASE_HANDLING);
        *ret = buffer_view(&c->body);
    }
    pthread_mutex_unlock(&c->mutex);
    return ok;
}

void connection_drop_body(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    connection_release_body(c);
    pthread_mutex_unlock(&c->mutex);
}

void connection_begin_reply(struct connection *c, size_t len)
{
    pthread_mutex_lock(&c->mutex);
    if (c->phase < PHASE_REFUSED || (c->wake != NULL && c->phase == PHASE_REFUSED))
        connection_enter(c, PHASE_REPLY);
    /* here, since the next request's first bytes may come as soon as the reply is out */
    if (c->wake == NULL)
        c->bytes_before = connection_bytes_received(c);
    c->until_ms = c->since_ms + REPLY_MS + (int64_t)(len / CONNECTION_RATE_BYTES_PER_MS);
    pthread_mutex_unlock(&c->mutex);
}

void connection_end_request(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    connection_release_body(c);
    c->look = (struct refusal_look){.lines = ""};
    memcpy(c->request_id, "-", sizeof("-")); /* the next one has none yet */
    c->served = true;
    if (c->phase == PHASE_HANDLING || c->phase == PHASE_REPLY || c->phase == PHASE_BODY) {
        connection_enter(c, PHASE_IDLE);
        c->headers_ms = 0;
    }
    pthread_mutex_unlock(&c->mutex);
}

void connection_linger(struct connection *c)
{
    struct connections *all = c->all;
    int64_t discard = 2 * all->max_body_bytes; /* of what the client still sends */

    if (discard < LINGER_BYTES_MIN)
        discard = LINGER_BYTES_MIN;
    pthread_mutex_lock(&c->mutex);
    connection_release_body(c);
    c->look = (struct refusal_look){.lines = ""};
    if (c->phase < PHASE_REFUSED)
        connection_enter(c, PHASE_LINGER);
    pthread_mutex_unlock(&c->mutex);
    if (atomic_fetch_add(&all->lingerers, 1) < LINGERERS_MAX)
        refusal_linger(c->fd, discard);
    atomic_fetch_sub(&all->lingerers, 1);
}

void connection_speaks_http2(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    c->http2 = true;
    pthread_mutex_unlock(&c->mutex);
}

void connection_has_streams(struct connection *c, bool any)
{
    pthread_mutex_lock(&c->mutex);
    c->served = true;
    if (c->phase < PHASE_REFUSED)
        connection_enter(c, any ? PHASE_HANDLING : PHASE_IDLE);
    pthread_mutex_unlock(&c->mutex);
}

enum connection_fate connection_fate(struct connection *c, struct error *err)
{
    pthread_mutex_lock(&c->mutex);
    enum connection_fate fate = c->phase == PHASE_REFUSED   ? CONNECTION_REFUSED
                                : c->phase == PHASE_CLOSING ? CONNECTION_SHUT_DOWN
                                                            : CONNECTION_FINE;
    if (fate == CONNECTION_REFUSED)
        *err = c->refusal;
    pthread_mutex_unlock(&c->mutex);
    return fate;
}

int connection_refused_status(struct connection *c)
{
    pthread_mutex_lock(&c->mutex);
    int status = c->refused_status;
    pthread_mutex_unlock(&c->mutex);
    return status;
}
