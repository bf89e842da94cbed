#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <sys/random.h>

/* The format has four digits for the year: 1000-01-01T00:00:00.000Z to 9999-12-31T23:59:59.999Z. */
#define RFC3339_FIRST_MS (-30610224000000LL)
#define RFC3339_LAST_MS 253402300799999LL

enum { AHEAD_LOOK_MS = 2 };

static _Atomic int64_t ahead_ms;

void clock_set_ahead(int64_t ms)
{
    atomic_store(&ahead_ms, ms);
}

static int64_t clock_us(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t clock_ms(clockid_t clock)
{
    return clock_us(clock) / 1000;
}

int64_t clock_monotonic_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC) + atomic_load_explicit(&ahead_ms, memory_order_relaxed);
}

double clock_monotonic_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int64_t clock_wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME) + atomic_load_explicit(&ahead_ms, memory_order_relaxed);
}

int64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME) + atomic_load_explicit(&ahead_ms, memory_order_relaxed) * 1000;
}

int64_t clock_left_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_monotonic_ms();

    return left > 0 ? left : 0;
}

void clock_pause(int64_t ms)
{
    if (atomic_load(&ahead_ms) != 0)
        atomic_fetch_add(&ahead_ms, ms);
    else
        poll(NULL, 0, (int)ms);
}

int64_t clock_jitter_ms(int64_t most_ms)
{
    uint32_t random = 0;

    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
        random = (uint32_t)clock_monotonic_ms() * 2654435761U;
    return (int64_t)(random % (uint64_t)(most_ms + 1));
}

void clock_cut_set(struct clock_cut *cut, int64_t deadline_ms)
{
    atomic_store(&cut->deadline_ms, deadline_ms);
}

int64_t clock_cut_deadline(const struct clock_cut *cut, int64_t deadline_ms)
{
    int64_t earliest = cut != NULL ? atomic_load(&cut->deadline_ms) : 0;

    return earliest != 0 && earliest < deadline_ms ? earliest : deadline_ms;
}

struct timespec clock_timespec(int64_t deadline_ms)
{
    int64_t ahead = atomic_load(&ahead_ms);

    if (ahead != 0) {
        int64_t look_ms = clock_ms(CLOCK_MONOTONIC) + AHEAD_LOOK_MS;
        deadline_ms = deadline_ms - ahead < look_ms ? deadline_ms - ahead : look_ms;
    }
    return (struct timespec){.tv_sec = deadline_ms / 1000,
                             .tv_nsec = (deadline_ms % 1000) * 1000000};
}

void clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_LEN])
{
    int64_t ms = wall_ms < RFC3339_FIRST_MS  ? RFC3339_FIRST_MS
                 : wall_ms > RFC3339_LAST_MS ? RFC3339_LAST_MS
                                             : wall_ms;
    int fraction = (int)((ms % 1000 + 1000) % 1000);
    time_t seconds = (ms - fraction) / 1000;
    struct tm tm;
    char date[24];

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out, CLOCK_RFC3339_LEN, "%s.%03dZ", date, fraction);
}
