#include "http/reaper.h"

#include "base/clock.h"
#include "base/threads.h"
#include "http/server_options.h"

enum {
    TICK_MS = 250,
    IDLE_LOOK_MS = 1000,
    HEADERS_MS = 10000,
    IDLE_MS = 60000,
    BODY_PAUSE_MS = 5000,
    BODY_GRACE_MS = 2000,
};

/* ---- the clock against the slow ---- */

static void reap_idle(struct connection *c, int64_t now)
{
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

static void reap_body(struct connection *c, int64_t now)
{
    int64_t age = now - c->since_ms;

    if (now >= c->all->cut_ms)
        connection_answer(c, ERROR_SHUTTING_DOWN, "shutting down");
    else if (now - c->last_byte_ms > BODY_PAUSE_MS)
        connection_answer(c, ERROR_TOO_SLOW, "no byte of the body arrived for 5 s");
    else if (age > BODY_GRACE_MS && (int64_t)c->body.len < age * CONNECTION_RATE_BYTES_PER_MS)
        connection_answer(c, ERROR_TOO_SLOW, "the body arrived at less than 16 KiB/s");
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

void *reaper_main(void *arg)
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

bool reaper_evict_slowest_body(struct connections *all)
{
    const struct byte_budget *budget = all->budget;
    struct connection *slowest = NULL;
    double lowest = 0;
    int64_t now = clock_monotonic_ms();

    pthread_mutex_lock(&all->mutex);
    if (budget->max - atomic_load(&budget->used) >=
        CONNECTION_CHARGE_STEP) { /* another one made room */
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
            connection_answer(slowest, ERROR_OVERLOADED,
                              "too many bytes are being received at once");
        pthread_mutex_unlock(&slowest->mutex);
    }
    pthread_mutex_unlock(&all->mutex);
    return slowest != NULL;
}
