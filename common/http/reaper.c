#include "http/reaper.h"

#include "base/clock.h"
#include "base/threads.h"
#include "http/server_options.h"

#include <math.h>

enum {
    TICK_MS = 250,
    IDLE_LOOK_MS = 1000,
    HEADERS_MS = 10000,
    IDLE_MS = 60000,
};

/* ---- the clock against the slow ---- */

static void reap_idle(struct connection *c, int64_t now)
{
    if (c->http2 || c->wake != NULL)
        return; /* their own thread looks */
    if (now - c->since_ms > IDLE_MS) {
        connection_shut_down(c);
        return;
    }
    if (now < c->look_ms)
        return;
    c->look_ms = now + IDLE_LOOK_MS; /* a system call per connection: once a second will do */
    uint64_t received = connection_bytes_received(c);
    if (c->headers_ms == 0 && received > c->bytes_before)
        c->headers_ms = now;
    if (c->headers_ms != 0 && now - c->headers_ms > HEADERS_MS)
        connection_answer(c, ERROR_TOO_SLOW, "the request's headers did not arrive within 10 s");
}

/* A client is not slow while its handler is busy. */
static bool is_up_to_client(const struct connection *c)
{
    return !c->is_read || c->awaited;
}

static void reap_body(struct connection *c, int64_t now)
{
    const struct connections *all = c->all;
    int64_t age = now - c->since_ms;
    bool rated = !c->is_read || c->body.len > 0;
    char why[96];

    if (now >= all->cut_ms) {
        connection_answer(c, ERROR_SHUTTING_DOWN, "shutting down");
    } else if (!is_up_to_client(c)) {
        return;
    } else if (now - c->last_byte_ms > all->body_stall_ms) {
        snprintf(why, sizeof(why), "no byte of the body arrived for %lld ms",
                 (long long)all->body_stall_ms);
        connection_answer(c, ERROR_TOO_SLOW, why);
    } else if (rated && age > CONNECTION_BODY_GRACE_MS &&
               (double)c->body.len * 1000 < (double)age * (double)all->body_min_rate) {
        snprintf(why, sizeof(why), "the body arrived at less than %lld bytes/s",
                 (long long)all->body_min_rate);
        connection_answer(c, ERROR_TOO_SLOW, why);
    }
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
            connection_shut_down(c);
        break;
    case PHASE_HANDLING:
    case PHASE_LINGER:
    case PHASE_CLOSING:
        break;
    }
    pthread_mutex_unlock(&c->mutex);
}

void reaper_look(struct connections *all)
{
    int64_t now = clock_monotonic_ms();

    for (struct connection *c = all->first; c != NULL; c = c->next)
        reap(c, now);
}

void *reaper_main(void *arg)
{
    struct connections *all = arg;

    pthread_mutex_lock(&all->mutex);
    while (!all->stopping) {
        int64_t now = clock_monotonic_ms();
        reaper_look(all);
        int64_t next = now + TICK_MS;
        if (all->cut_ms > now && all->cut_ms < next)
            next = all->cut_ms;
        thread_cond_wait(&all->changed, &all->mutex, next);
    }
    pthread_mutex_unlock(&all->mutex);
    return NULL;
}

/* ---- evictions: making room for others ---- */

/* End the connection that has been the longest in one of these phases. Called with the list locked.
 */
static bool evict_oldest(struct connections *all, enum phase from, enum phase to)
{
    struct connection *oldest = NULL;
    int64_t since = INT64_MAX;

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        pthread_mutex_lock(&c->mutex);
        if (c->wake == NULL && c->phase >= from && c->phase <= to && c->since_ms <= since) {
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
        connection_shut_down(oldest);
    pthread_mutex_unlock(&oldest->mutex);
    return still;
}

int reaper_make_room(struct connections *all)
{
    int64_t above = all->count - all->max_connections;
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

bool reaper_evict_body(struct connections *all, const struct eviction *which)
{
    struct connection *slowest = NULL;
    double lowest = which->bytes_per_ms;
    int64_t now = clock_monotonic_ms();

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        pthread_mutex_lock(&c->mutex);
        int64_t age = now - c->since_ms;
        double rate = (double)c->body.len / (double)(age + 1);
        if (c->phase == PHASE_BODY && is_up_to_client(c) && age >= which->age_ms &&
            (c->has_place || !which->places) && c->charged >= which->charged && rate < lowest) {
            slowest = c;
            lowest = rate;
        }
        pthread_mutex_unlock(&c->mutex);
    }
    if (slowest == NULL)
        return false;
    pthread_mutex_lock(&slowest->mutex);
    if (slowest->phase == PHASE_BODY) /* it may have just become complete */
        connection_answer(slowest, ERROR_OVERLOADED, which->why);
    pthread_mutex_unlock(&slowest->mutex);
    return true;
}

bool reaper_make_room_for_body(struct connections *all)
{
    const struct byte_budget *budget = all->budget;
    const struct eviction which = {
        .charged = 1, .bytes_per_ms = INFINITY, .why = "too many bytes are being received at once"};

    pthread_mutex_lock(&all->mutex);
    /* another one may have made room */
    bool ok = budget->max - atomic_load(&budget->used) >= CONNECTION_CHARGE_STEP ||
              reaper_evict_body(all, &which);
    pthread_mutex_unlock(&all->mutex);
    return ok;
}
