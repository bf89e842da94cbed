#include "../test_cases.h"
#include "http/handler_threads.h"

#include <semaphore.h>
#include <stdatomic.h>

enum { JOBS = 200 };

/* A job that waits for another to run at the same time. */
struct meeting {
    struct handler_job job; /* first */
    sem_t *mine, *others;
};

static void meet(struct handler_job *job)
{
    const struct meeting *m = (struct meeting *)job;

    sem_post(m->mine);
    sem_wait(m->others);
}

TEST(jobs_run_at_the_same_time)
{
    struct handler_threads *t = handler_threads_new(2);
    struct error err;
    sem_t a, b;

    sem_init(&a, 0, 0);
    sem_init(&b, 0, 0);
    struct meeting first = {.job.run = meet, .mine = &a, .others = &b};
    struct meeting second = {.job.run = meet, .mine = &b, .others = &a};
    assert_true(handler_threads_run(t, &first.job, &err));
    assert_true(handler_threads_run(t, &second.job, &err));
    handler_threads_free(t); /* waits for both */
    sem_destroy(&a);
    sem_destroy(&b);
}

struct counted {
    struct handler_job job; /* first */
    atomic_int *running, *most, *done;
};

static void count(struct handler_job *job)
{
    const struct counted *c = (struct counted *)job;
    int running = atomic_fetch_add(c->running, 1) + 1, most = atomic_load(c->most);

    while (running > most && !atomic_compare_exchange_weak(c->most, &most, running))
        ;
    usleep(100);
    atomic_fetch_sub(c->running, 1);
    atomic_fetch_add(c->done, 1);
}

TEST(no_more_than_allowed_run_and_all_do)
{
    static struct counted jobs[JOBS];
    struct handler_threads *t = handler_threads_new(3);
    atomic_int running = 0, most = 0, done = 0;
    struct error err;

    for (int i = 0; i < JOBS; i++) {
        jobs[i] =
            (struct counted){.job.run = count, .running = &running, .most = &most, .done = &done};
        assert_true(handler_threads_run(t, &jobs[i].job, &err));
    }
    handler_threads_free(t);
    assert_int_equal(done, JOBS);
    assert_in_range(most, 1, 3);
}

TEST_MAIN(NULL, NULL)
