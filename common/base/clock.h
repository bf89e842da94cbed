/* Time. Monotonic for timers and deadlines, wall clock only for what people and protocols read.
 * A deadline is a point on the monotonic clock in milliseconds. Thread-safe. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Milliseconds since some fixed point; never goes back. */
int64_t clock_monotonic_ms(void);
/* The same in seconds, for durations in metrics. */
double clock_monotonic_s(void);
/* Milliseconds since 1970-01-01T00:00:00Z. */
int64_t clock_wall_ms(void);
/* The same in microseconds. */
int64_t clock_wall_us(void);

/* Milliseconds left until `deadline_ms`, at least 0. */
int64_t clock_left_ms(int64_t deadline_ms);

/* Wait for that long. */
void clock_pause(int64_t ms);

/* A random part of it, 0 to most_ms: the pause before another attempt ("full jitter"), so that
 * those who failed together do not come back together. */
int64_t clock_jitter_ms(int64_t most_ms);

/* Moves the deadlines of calls that are already running, at shutdown: those who wait look at it
 * now and then (at least every CLOCK_CUT_LOOK_MS). Zero-initialise: nothing is cut. */
struct clock_cut {
    _Atomic int64_t deadline_ms; /* 0: none */
};
enum { CLOCK_CUT_LOOK_MS = 200 };
void clock_cut_set(struct clock_cut *cut, int64_t deadline_ms);
/* The earlier of the deadline and the cut; `cut` may be NULL. */
int64_t clock_cut_deadline(const struct clock_cut *cut, int64_t deadline_ms);

/* The CLOCK_MONOTONIC timespec of a deadline, for thread_cond_wait. */
struct timespec clock_timespec(int64_t deadline_ms);

/* For tests, which do not wait for time to pass: these clocks are `ms` ahead of the real ones; 0 is
 * where they begin. While they are ahead, a thread_cond_wait looks at them every 2 ms, and a
 * clock_pause sets them further ahead instead of waiting. */
void clock_set_ahead(int64_t ms);

enum { CLOCK_RFC3339_LEN = 32 };
/* "2026-01-02T03:04:05.678Z" of a wall-clock time; the first or last such time for one outside the
 * years 1000 to 9999. */
void clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_LEN]);
