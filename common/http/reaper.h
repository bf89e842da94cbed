/* What ends connections from outside: a thread, by the clock, and whoever needs room. */
#ifndef DARKROOM_HTTP_REAPER_H
#define DARKROOM_HTTP_REAPER_H

#include "http/connection.h"

/* The reaper thread; its argument is the struct connections. */
void *reaper_main(void *arg);

/* Room for one more, before the new one is in the list, which is locked. The milliseconds to hold
 * it back: evicted connections take a moment to go, and at libmicrohttpd's own limit it resets what
 * it accepts. */
int reaper_make_room(struct connections *all);

/* The budget is full: end the body that has the lowest rate so far. False when there is none, else
 * it is worth trying again. Called with nothing locked. */
bool reaper_evict_slowest_body(struct connections *all);

#endif
