/* How many requests are in flight, and whether one more may be. Thread-safe.
 *
 * A request is counted first and the state looked at then: a drain that has begun is either seen
 * here, or waits for this request. */
#pragma once

#include "http/connections.h"
#include "http/server_options.h"

#include <stdatomic.h>

/* Streams on light routes at a time: each holds a thread. */
enum { ADMISSION_WATCHES_MAX = 16 };

struct admission {
    const struct server_options *options; /* borrowed */
    struct connections *connections;      /* borrowed */
    _Atomic int inflight;
    _Atomic int working; /* of these, on routes that are not light */
    _Atomic int watches;
    atomic_bool draining;
    _Atomic int64_t cut_ms; /* no request's deadline is later than this */
};

/* What one request is counted in. Zero-initialise. */
struct counted {
    bool inflight, working, watches;
};

/* Count a request; unless it is `light`, false when it may not run: ERROR_SHUTTING_DOWN,
 * ERROR_OVERLOADED, or what options->admit says. Either way admission_end is due. */
bool admission_begin(struct admission *a, struct counted *counted, bool light,
                     struct error *err) NODISCARD;
/* A stream on a light route, counted by admission_begin already. ERROR_OVERLOADED. */
bool admission_begin_watch(struct admission *a, struct counted *counted,
                           struct error *err) NODISCARD;
/* May be called more than once, and for a request that was never counted. */
void admission_end(struct admission *a, struct counted *counted);
