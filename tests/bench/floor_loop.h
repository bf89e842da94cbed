/* How the floors are measured: the same step over and over on N threads, each with its own state.
 */
#pragma once

#include <stddef.h>

enum { FLOOR_THREADS_MAX = 256, FLOOR_STEPS_MAX = 2 };

struct floor_step {
    void *(*begin)(const void *ctx, int index); /* a thread's state */
    void (*step)(void *state, size_t i);        /* dies when it fails */
    void (*end)(void *state);
    const void *ctx;
};

struct floor_loop {
    const char *name;
    int threads;
    double seconds; /* after a tenth of it as a warm-up */
    /* one after the other; those without `step` are none */
    struct floor_step steps[FLOOR_STEPS_MAX];
};

/* Run it and print one JSON object on a line. */
void floor_loop_run(const struct floor_loop *loop);
