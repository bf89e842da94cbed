/* Threads that run the handlers of HTTP/2 streams, which wait for workers and for storage. They are
 * made when they are needed, and go when they have had nothing to do for 10 s. Thread-safe. */
#pragma once

#include "base/error.h"

struct handler_threads;

/* Part of what is to be run; the caller's until `run` is called with it. */
struct handler_job {
    void (*run)(struct handler_job *job);
    struct handler_job *next;
};

/* At most so many threads; further jobs wait for one. */
struct handler_threads *handler_threads_new(int64_t most);
/* ERROR_OVERLOADED when there is no thread and none can be made. */
bool handler_threads_run(struct handler_threads *t, struct handler_job *job,
                         struct error *err) NODISCARD;
/* Returns when all jobs have been run. */
void handler_threads_free(struct handler_threads *t);
