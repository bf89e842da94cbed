#include "floor.h"

#include "program.h"

#include <pthread.h>
#include <stdio.h>

struct runner {
    const struct floor_loop *loop;
    pthread_barrier_t *start;
    int index;
    pthread_t thread;
    size_t count;
    double seconds; /* that `count` steps took */
    double cpu_from_s;
};

/* Of all threads: libvips has some of its own. */
static double process_cpu_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void run_once(const struct floor_loop *loop, void *const *states, size_t i)
{
    for (int k = 0; k < FLOOR_STEPS_MAX && loop->steps[k].step != NULL; k++)
        loop->steps[k].step(states[k], i);
}

static void *run(void *arg)
{
    struct runner *r = arg;
    const struct floor_loop *loop = r->loop;
    void *states[FLOOR_STEPS_MAX] = {0};
    size_t i = (size_t)r->index * 7919; /* so that not all begin with the same input */
    double from, until;

    for (int k = 0; k < FLOOR_STEPS_MAX && loop->steps[k].step != NULL; k++)
        states[k] = loop->steps[k].begin(loop->steps[k].ctx, r->index);
    for (until = now_s() + loop->seconds / 10; now_s() < until;)
        run_once(loop, states, i++);
    pthread_barrier_wait(r->start);
    from = now_s();
    r->cpu_from_s = process_cpu_s();
    until = from + loop->seconds;
    do {
        run_once(loop, states, i++);
        r->count++;
    } while (now_s() < until);
    r->seconds = now_s() - from;
    for (int k = 0; k < FLOOR_STEPS_MAX && loop->steps[k].step != NULL; k++)
        loop->steps[k].end(states[k]);
    return NULL;
}

void floor_loop_run(const struct floor_loop *loop)
{
    struct runner runners[FLOOR_THREADS_MAX];
    pthread_barrier_t start;
    double rate = 0;
    size_t count = 0;

    pthread_barrier_init(&start, NULL, (unsigned)loop->threads);
    for (int i = 0; i < loop->threads; i++) {
        runners[i] = (struct runner){.loop = loop, .start = &start, .index = i};
        if (pthread_create(&runners[i].thread, NULL, run, &runners[i]) != 0)
            die("no thread");
    }
    for (int i = 0; i < loop->threads; i++) {
        pthread_join(runners[i].thread, NULL);
        count += runners[i].count;
        /* each thread ends with a whole step: its own time is what that took */
        rate += (double)runners[i].count / runners[i].seconds;
    }
    pthread_barrier_destroy(&start);
    printf("{\"floor\": \"%s\", \"threads\": %d, \"count\": %zu, \"per_second\": %.3f, "
           "\"cpu_ms\": %.6f}\n",
           loop->name, loop->threads, count, rate,
           1e3 * (process_cpu_s() - runners[0].cpu_from_s) / (double)count);
}
