/* What ends connections from outside: a thread, by the clock, and whoever needs room. */
#pragma once

#include "http/connection.h"

/* The reaper thread; its argument is the struct connections. */
void *reaper_main(void *arg);

/* Room for one more, before the new one is in the list, which is locked. The milliseconds to hold
 * it back: evicted connections take a moment to go, and at libmicrohttpd's own limit it resets what
 * it accepts. */
int reaper_make_room(struct connections *all);

/* One look at every connection: the thread does this every 250 ms. Called with the list locked. */
void reaper_look(struct connections *all);

/* Which bodies may be ended to make room for others. */
struct eviction {
    int64_t age_ms;      /* since their headers, at least */
    int64_t charged;     /* to the budget, at least */
    double bytes_per_ms; /* on average, less than that */
    bool places;         /* only of requests that count in MAX_INFLIGHT */
    const char *why;
};
/* End the slowest of these. False when there is none. Called with the list locked. */
bool reaper_evict_body(struct connections *all, const struct eviction *which);
/* The budget is full: end the slowest body. False when there is none, else it is worth trying
 * again. Called with nothing locked. */
bool reaper_make_room_for_body(struct connections *all);
