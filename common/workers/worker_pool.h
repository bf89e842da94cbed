/* A fixed set of threads for CPU work, with a bounded queue. Connection threads only do I/O and
 * wait here.
 *
 * Small and large jobs queue apart, each first come, first served, so that thumbnails do not wait
 * behind huge images. While small ones wait, or came within the last second, one worker takes no
 * large job (if there is more than one), and after a large job the small ones that wait get as much
 * time from the workers as it took before the next large one begins. So
 *  - a small job waits for the small ones before it, and for one large one at most at a time;
 *  - a large job waits for the large ones before it, and as long again for small ones: small ones
 *    can never keep it from running.
 * A large job also waits, in its queue, until its memory fits beside that of the large ones that
 * run: no worker is held for it. None overtakes it, so it begins at the latest when all those have
 * ended; one that is larger than the whole budget runs without another large one. Small jobs are
 * not charged, for a few MiB each, and never wait for memory.
 * Of scarce jobs, which are large, only scarce_max run at a time. One that waits for its turn holds
 * no worker either, and holds up none behind it that is not scarce.
 * What was accepted waits for at most QUEUE_MAX / max(1, WORKERS - 1) + 1 services of its own kind,
 * and as long again for the other kind; a scarce job, for as many services of scarce ones as wait
 * before it. A single worker cannot leave a large job for a small one:
 * there a small one waits for at most one large service before its turn comes.
 *
 * Threads run at nice +5, so that I/O threads (health checks!) come first. Thread-safe. */
#pragma once

#include "base/error.h"
#include "base/stages.h"

#include <stdatomic.h>
#include <stdint.h>

struct worker_pool;

struct pool_job {
    /* `state` is the worker's own, reused from job to job. `cancelled` becomes true once the
     * deadline has passed: end soon then. */
    bool (*run)(void *state, void *arg, const atomic_bool *cancelled, struct error *err);
    void *arg;               /* borrowed until worker_pool_run returns */
    bool large;              /* takes many times as long as most, or much memory */
    int64_t memory;          /* bytes it may need while it runs; counts when it is large */
    bool scarce;             /* one of those of which few may run at a time; it is large, too */
    const atomic_bool *gone; /* becomes true: as if the deadline had passed; may be NULL */
    struct stages *stages;   /* the wait is noted there; may be NULL */
};

struct worker_pool_options {
    int workers;
    int queue_max;
    int64_t memory_max; /* of all large jobs that run together; 0: any */
    int scarce_max;     /* scarce jobs that run together; 0: any number */
    void *(*state_new)(void *ctx, struct error *err); /* may be NULL; run at the thread's start */
    /* May be NULL; run after it, while the pool is in use already: what need not be ready at once
     */
    void (*begin)(void *state);
    void (*state_free)(void *state); /* at the thread's end; called with NULL state too */
    void *ctx;
};

/* NULL on failure: threads or a worker's state could not be made. */
struct worker_pool *worker_pool_new(const struct worker_pool_options *options,
                                    struct error *err) NODISCARD;
/* No job may be in progress. */
void worker_pool_free(struct worker_pool *pool);

/* Run the job on a worker, wait for it and return what it returned. ERROR_OVERLOADED when the queue
 * is full, ERROR_DEADLINE when the deadline passed before a worker and memory were free (the job
 * never ran).
 * Once it runs, the call ends when the job does (which says itself whether it was cancelled). */
bool worker_pool_run(struct worker_pool *pool, const struct pool_job *job, int64_t deadline_ms,
                     struct error *err) NODISCARD;

/* Cut the deadlines of all jobs, waiting or running, to at most this. For shutdown. */
void worker_pool_cut_deadlines(struct worker_pool *pool, int64_t deadline_ms);

/* Whether a job would be refused now. A hint: worker_pool_run decides. */
bool worker_pool_is_full(struct worker_pool *pool);
int worker_pool_queue_depth(struct worker_pool *pool);
int worker_pool_busy(struct worker_pool *pool);
/* Workers that have nothing to do, and of which none is kept for small jobs: a job that runs may
 * use as many CPUs more. A hint, too. */
int worker_pool_spare(struct worker_pool *pool);
