#include "../test_cases.h"
#include "base/clock.h"
#include "workers/worker_pool.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { FAR_MS = 60000, CALLERS_MAX = 16, HELD_UP_MAX = 20, NICEST = 19 };

static struct worker_pool *pool_of(int workers, int queue_max)
{
    struct error err = {0};
    struct worker_pool *pool = worker_pool_new(
        &(struct worker_pool_options){.workers = workers, .queue_max = queue_max}, &err);

    assert_non_null(pool);
    return pool;
}

/* A job that says when it runs and goes on until it is let go or cancelled. */
struct held {
    sem_t running, go;
    bool cancelled;
};

static void held_init(struct held *held)
{
    sem_init(&held->running, 0, 0);
    sem_init(&held->go, 0, 0);
    held->cancelled = false;
}

static bool hold(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct held *held = arg;

    sem_post(&held->running);
    while (sem_trywait(&held->go) != 0 && !(held->cancelled = atomic_load(cancelled)))
        usleep(1000);
    return true;
}

/* A worker_pool_run call on a thread of its own. */
struct caller {
    struct worker_pool *pool;
    struct pool_job job;
    int64_t deadline_ms;
    pthread_t thread;
    bool ok;
    struct error err;
};

static void *caller_main(void *arg)
{
    struct caller *caller = arg;

    caller->ok = worker_pool_run(caller->pool, &caller->job, caller->deadline_ms, &caller->err);
    return NULL;
}

static void call(struct caller *caller, struct worker_pool *pool,
                 bool (*run)(void *, void *, const atomic_bool *, struct error *), void *arg,
                 int64_t deadline_ms)
{
    *caller =
        (struct caller){.pool = pool, .job = {.run = run, .arg = arg}, .deadline_ms = deadline_ms};
    assert_int_equal(pthread_create(&caller->thread, NULL, caller_main, caller), 0);
}

static void call_large(struct caller *caller, struct worker_pool *pool,
                       bool (*run)(void *, void *, const atomic_bool *, struct error *), void *arg,
                       int64_t deadline_ms)
{
    *caller = (struct caller){
        .pool = pool, .job = {.run = run, .arg = arg, .large = true}, .deadline_ms = deadline_ms};
    assert_int_equal(pthread_create(&caller->thread, NULL, caller_main, caller), 0);
}

static void wait_for_depth(struct worker_pool *pool, int depth)
{
    for (int i = 0; i < 10000 && worker_pool_queue_depth(pool) != depth; i++)
        usleep(1000);
    assert_int_equal(worker_pool_queue_depth(pool), depth);
}

static bool add_one(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    return true;
}

TEST(jobs_run)
{
    struct worker_pool *pool = pool_of(2, 1);
    struct error err = {0};
    atomic_int count = 0;

    for (int i = 0; i < 1000; i++)
        assert_true(worker_pool_run(pool, &(struct pool_job){.run = add_one, .arg = &count},
                                    clock_monotonic_ms() + FAR_MS, &err));
    assert_int_equal(count, 1000);
    assert_int_equal(worker_pool_busy(pool), 0);
    assert_int_equal(worker_pool_queue_depth(pool), 0);
    worker_pool_free(pool);
}

TEST(the_queue_is_bounded)
{
    struct worker_pool *pool = pool_of(1, 2);
    struct caller callers[3];
    struct held held[3];
    struct error err = {0};
    int64_t deadline = clock_monotonic_ms() + FAR_MS;

    for (size_t i = 0; i < 3; i++) {
        held_init(&held[i]);
        call(&callers[i], pool, hold, &held[i], deadline);
        if (i == 0)
            sem_wait(&held[0].running);
        wait_for_depth(pool, (int)i);
    }
    assert_true(worker_pool_is_full(pool));
    assert_int_equal(worker_pool_busy(pool), 1);
    assert_fails(
        err, ERROR_OVERLOADED,
        worker_pool_run(pool, &(struct pool_job){.run = hold, .arg = &held[0]}, deadline, &err));
    for (size_t i = 0; i < 3; i++)
        sem_post(&held[i].go);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_true(callers[i].ok);
        assert_false(held[i].cancelled);
    }
    assert_false(worker_pool_is_full(pool));
    worker_pool_free(pool);
}

/* One that runs is cancelled, one that waits is withdrawn. */
TEST(nobody_waits_for_the_answer)
{
    struct worker_pool *pool = pool_of(1, 2);
    struct caller callers[2] = {0};
    struct held held;
    atomic_bool gone = false;
    atomic_int count = 0;

    held_init(&held);
    callers[0].job = (struct pool_job){.run = hold, .arg = &held, .gone = &gone};
    callers[1].job = (struct pool_job){.run = add_one, .arg = &count, .gone = &gone};
    for (int i = 0; i < 2; i++) {
        callers[i].pool = pool;
        callers[i].deadline_ms = clock_monotonic_ms() + FAR_MS;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
        if (i == 0)
            sem_wait(&held.running);
    }
    while (worker_pool_queue_depth(pool) != 1)
        usleep(1000);
    atomic_store(&gone, true);
    for (int i = 0; i < 2; i++)
        pthread_join(callers[i].thread, NULL);
    assert_true(held.cancelled);
    /* it began if the worker was free before the look */
    assert_int_equal(callers[1].ok, count == 1);
    if (!callers[1].ok)
        assert_int_equal(callers[1].err.code, ERROR_DEADLINE);
    worker_pool_free(pool);
}

TEST(idle_workers_take_a_burst_beyond_the_queue)
{
    struct worker_pool *pool = pool_of(4, 1);
    struct caller callers[5];
    struct held held[5];

    for (size_t i = 0; i < 5; i++) {
        held_init(&held[i]);
        call(&callers[i], pool, hold, &held[i], clock_monotonic_ms() + FAR_MS);
        if (i < 4)
            sem_wait(&held[i].running);
    }
    wait_for_depth(pool, 1);
    for (size_t i = 0; i < 5; i++)
        sem_post(&held[i].go);
    for (size_t i = 0; i < 5; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_true(callers[i].ok);
    }
    worker_pool_free(pool);
}

TEST(a_deadline_in_the_queue_withdraws_the_job)
{
    struct worker_pool *pool = pool_of(1, 4);
    struct caller first, last;
    struct held held;
    struct error err = {0};
    atomic_int ran = 0, late = 0;

    held_init(&held);
    call(&first, pool, hold, &held, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held.running);
    int64_t begun = clock_monotonic_ms();
    assert_fails(
        err, ERROR_DEADLINE,
        worker_pool_run(pool, &(struct pool_job){.run = add_one, .arg = &late}, begun + 50, &err));
    assert_true(clock_monotonic_ms() - begun >= 50);
    assert_int_equal(worker_pool_queue_depth(pool), 0);
    /* already over: never queued for long, never run */
    assert_fails(err, ERROR_DEADLINE,
                 worker_pool_run(pool, &(struct pool_job){.run = add_one, .arg = &late}, 0, &err));
    /* the queue is still whole: what comes after is run */
    call(&last, pool, add_one, &ran, clock_monotonic_ms() + FAR_MS);
    wait_for_depth(pool, 1);
    sem_post(&held.go);
    pthread_join(first.thread, NULL);
    pthread_join(last.thread, NULL);
    assert_true(first.ok && last.ok);
    assert_int_equal(ran, 1);
    assert_int_equal(late, 0);
    worker_pool_free(pool);
}

TEST(a_running_job_is_cancelled_at_its_deadline)
{
    struct worker_pool *pool = pool_of(1, 1);
    struct held held;
    struct error err = {0};

    held_init(&held);
    int64_t deadline = clock_monotonic_ms() + 50;
    assert_true(
        worker_pool_run(pool, &(struct pool_job){.run = hold, .arg = &held}, deadline, &err));
    assert_true(held.cancelled);
    assert_true(clock_monotonic_ms() >= deadline);
    worker_pool_free(pool);
}

TEST(cut_deadlines_reach_waiting_and_running_jobs)
{
    struct worker_pool *pool = pool_of(1, 2);
    struct caller running, waiting;
    struct held held;
    struct error err = {0};
    atomic_int ran = 0;

    held_init(&held);
    call(&running, pool, hold, &held, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held.running);
    call(&waiting, pool, add_one, &ran, clock_monotonic_ms() + FAR_MS);
    wait_for_depth(pool, 1);
    worker_pool_cut_deadlines(pool, clock_monotonic_ms() + 30);
    pthread_join(running.thread, NULL);
    pthread_join(waiting.thread, NULL);
    assert_true(running.ok);
    assert_true(held.cancelled);
    /* it gave up waiting, unless the worker came free first */
    assert_int_equal(waiting.ok, ran == 1);
    if (!waiting.ok)
        assert_int_equal(waiting.err.code, ERROR_DEADLINE);
    /* and every later one */
    held_init(&held);
    if (worker_pool_run(pool, &(struct pool_job){.run = hold, .arg = &held},
                        clock_monotonic_ms() + FAR_MS, &err))
        assert_true(held.cancelled);
    else
        assert_int_equal(err.code, ERROR_DEADLINE);
    worker_pool_free(pool);
}

struct order {
    atomic_int *next;
    int seen;
};

static bool note_order(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct order *order = arg;

    order->seen = atomic_fetch_add(order->next, 1);
    return true;
}

TEST(first_come_first_served)
{
    struct worker_pool *pool = pool_of(1, CALLERS_MAX);
    struct caller first, callers[CALLERS_MAX];
    struct order orders[CALLERS_MAX];
    struct held held;
    atomic_int next = 0;

    held_init(&held);
    call(&first, pool, hold, &held, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held.running);
    for (int i = 0; i < CALLERS_MAX; i++) {
        orders[i] = (struct order){.next = &next};
        call(&callers[i], pool, note_order, &orders[i], clock_monotonic_ms() + FAR_MS);
        wait_for_depth(pool, i + 1);
    }
    sem_post(&held.go);
    pthread_join(first.thread, NULL);
    for (int i = 0; i < CALLERS_MAX; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(orders[i].seen, i);
    }
    worker_pool_free(pool);
}

/* ---- small and large jobs */

static void let_go(struct caller *caller, struct held *held)
{
    sem_post(&held->go);
    pthread_join(caller->thread, NULL);
    assert_true(caller->ok);
}

static void run_small(struct worker_pool *pool)
{
    struct error err = {0};
    atomic_int count = 0;

    assert_true(worker_pool_run(pool, &(struct pool_job){.run = add_one, .arg = &count},
                                clock_monotonic_ms() + FAR_MS, &err));
    assert_int_equal(count, 1);
}

TEST(large_jobs_alone_use_every_worker)
{
    struct worker_pool *pool = pool_of(3, 4);
    struct caller callers[3];
    struct held held[3];

    for (size_t i = 0; i < 3; i++) {
        held_init(&held[i]);
        call_large(&callers[i], pool, hold, &held[i], clock_monotonic_ms() + FAR_MS);
        sem_wait(&held[i].running);
    }
    for (size_t i = 0; i < 3; i++)
        let_go(&callers[i], &held[i]);
    worker_pool_free(pool);
}

/* False: this thread was held up for as long as a worker is kept. */
static bool small_jobs_go_first(struct worker_pool *pool)
{
    struct caller callers[2];
    struct held held[2];

    int64_t small_ms = clock_monotonic_ms();
    run_small(pool);
    for (size_t i = 0; i < 2; i++) {
        held_init(&held[i]);
        call_large(&callers[i], pool, hold, &held[i], clock_monotonic_ms() + FAR_MS);
        if (i == 0)
            sem_wait(&held[0].running);
    }
    while (worker_pool_queue_depth(pool) == 0 && worker_pool_busy(pool) == 1)
        usleep(1000);
    int64_t again_ms = clock_monotonic_ms();
    bool kept = worker_pool_queue_depth(pool) == 1;
    if (kept) {
        run_small(pool);
        kept = worker_pool_queue_depth(pool) == 1;
    }
    assert_true(kept || clock_monotonic_ms() - small_ms >= 900);
    /* no more small ones: the worker takes the large job after a second, by itself */
    sem_wait(&held[1].running);
    assert_true(!kept || clock_monotonic_ms() - again_ms >= 900);
    for (size_t i = 0; i < 2; i++)
        let_go(&callers[i], &held[i]);
    return kept;
}

TEST(a_worker_is_kept_for_small_jobs_while_there_are_any)
{
    struct worker_pool *pool = pool_of(2, 4);

    for (int i = 0; !small_jobs_go_first(pool); i++)
        assert_true(i < HELD_UP_MAX);
    worker_pool_free(pool);
}

static bool nap_and_note(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    usleep(50000);
    return note_order(state, arg, cancelled, err);
}

/* What a large job may use more: nothing while small ones come. */
TEST(idle_workers_are_spare)
{
    struct worker_pool *pool = pool_of(3, 4);
    struct caller caller;
    struct held held;
    int64_t before_ms;
    int spare;

    assert_int_equal(worker_pool_spare(pool), 3);
    held_init(&held);
    call_large(&caller, pool, hold, &held, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held.running);
    assert_int_equal(worker_pool_spare(pool), 2);
    do { /* once more when this thread was held up for as long as the worker is kept */
        before_ms = clock_monotonic_ms();
        run_small(pool);
        spare = worker_pool_spare(pool);
    } while (clock_monotonic_ms() - before_ms > 900);
    assert_int_equal(spare, 0);
    for (int i = 0; i < 10000 && worker_pool_spare(pool) == 0; i++)
        usleep(1000);
    assert_int_equal(worker_pool_spare(pool), 2);
    let_go(&caller, &held);
    worker_pool_free(pool);
}

TEST(small_jobs_come_between_large_ones)
{
    enum { LARGE = 2, ALL = 8 };
    struct worker_pool *pool = pool_of(1, ALL);
    struct caller first, callers[ALL];
    struct order orders[ALL];
    struct held held;
    atomic_int next = 0;

    held_init(&held);
    call(&first, pool, hold, &held, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held.running);
    for (int i = 0; i < ALL; i++) {
        orders[i] = (struct order){.next = &next};
        if (i < LARGE)
            call_large(&callers[i], pool, nap_and_note, &orders[i], clock_monotonic_ms() + FAR_MS);
        else
            call(&callers[i], pool, note_order, &orders[i], clock_monotonic_ms() + FAR_MS);
        wait_for_depth(pool, i + 1);
    }
    let_go(&first, &held);
    for (int i = 0; i < ALL; i++)
        pthread_join(callers[i].thread, NULL);
    assert_int_equal(orders[0].seen, 0);
    for (int i = LARGE; i < ALL; i++)
        assert_int_equal(orders[i].seen, i - 1);
    assert_int_equal(orders[1].seen, ALL - 1);
    worker_pool_free(pool);
}

struct flood {
    struct worker_pool *pool;
    atomic_bool over;
};

static bool nap(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    usleep(*(useconds_t *)arg);
    return true;
}

static void *flood_main(void *arg)
{
    struct flood *flood = arg;
    useconds_t us = 1000;

    while (!atomic_load(&flood->over)) {
        struct error err = {0};
        if (!worker_pool_run(flood->pool, &(struct pool_job){.run = nap, .arg = &us},
                             clock_monotonic_ms() + FAR_MS, &err))
            abort();
    }
    return NULL;
}

/* Small jobs without end, more than the workers can do: large ones still get their share. */
TEST(large_jobs_do_not_starve)
{
    for (int workers = 1; workers <= 3; workers++) {
        struct flood flood = {.pool = pool_of(workers, 64)};
        struct error err = {0};
        useconds_t us = 20000;
        pthread_t threads[8];

        for (size_t i = 0; i < 8; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, flood_main, &flood), 0);
        for (int i = 0; i < 10; i++)
            assert_true(worker_pool_run(flood.pool,
                                        &(struct pool_job){.run = nap, .arg = &us, .large = true},
                                        clock_monotonic_ms() + 3000, &err));
        atomic_store(&flood.over, true);
        for (size_t i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
        worker_pool_free(flood.pool);
    }
}

TEST(large_jobs_have_deadlines_too)
{
    struct worker_pool *pool = pool_of(2, 4);
    struct caller running, waiting;
    struct held held;
    struct error err = {0};
    atomic_int late = 0, ran = 0;
    int64_t small_ms;
    int rounds = 0;
    bool ok;

    held_init(&held);
    call_large(&running, pool, hold, &held, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held.running);
    do { /* one worker is idle, but kept; once more when this thread was held up for as long */
        small_ms = clock_monotonic_ms();
        run_small(pool);
        ok = worker_pool_run(pool, &(struct pool_job){.run = add_one, .arg = &late, .large = true},
                             clock_monotonic_ms() + 30, &err);
    } while (ok && clock_monotonic_ms() - small_ms >= 900 && ++rounds < HELD_UP_MAX);
    assert_fails(err, ERROR_DEADLINE, ok);
    assert_int_equal(worker_pool_queue_depth(pool), 0);
    call_large(&waiting, pool, add_one, &ran, clock_monotonic_ms() + FAR_MS);
    while (worker_pool_queue_depth(pool) == 0 && atomic_load(&ran) == 0)
        usleep(1000);
    worker_pool_cut_deadlines(pool, clock_monotonic_ms() + 30);
    pthread_join(running.thread, NULL);
    pthread_join(waiting.thread, NULL);
    assert_true(running.ok && held.cancelled);
    assert_int_equal(waiting.ok, ran == 1);
    worker_pool_free(pool);
}

struct states {
    atomic_int made, freed, fail_from;
};

static void *state_new(void *ctx, struct error *err)
{
    struct states *states = ctx;
    int n = atomic_fetch_add(&states->made, 1);

    if (n >= states->fail_from) {
        error_set(err, ERROR_CONFIG, "no room for state %d", n);
        return NULL;
    }
    struct states **state = malloc(sizeof(*state));
    assert_non_null(state);
    *state = states;
    return state;
}

static void state_free(void *state)
{
    if (state == NULL)
        return;
    atomic_fetch_add(&(*(struct states **)state)->freed, 1);
    free(state);
}

struct niceness {
    int value;
    void *state;
};

static bool look_at_niceness(void *state, void *arg, const atomic_bool *cancelled,
                             struct error *err)
{
    struct niceness *niceness = arg;

    niceness->value = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    niceness->state = state;
    return true;
}

/* ---- memory */

static struct worker_pool *pool_with_memory(int workers, int64_t memory_max)
{
    struct error err = {0};
    struct worker_pool *pool = worker_pool_new(
        &(struct worker_pool_options){.workers = workers, .queue_max = 8, .memory_max = memory_max},
        &err);

    assert_non_null(pool);
    return pool;
}

static void call_with_memory(struct caller *caller, struct worker_pool *pool, struct held *held,
                             int64_t memory, int64_t deadline_ms)
{
    held_init(held);
    *caller = (struct caller){
        .pool = pool,
        .job = {.run = hold, .arg = held, .large = true, .memory = memory},
        .deadline_ms = deadline_ms,
    };
    assert_int_equal(pthread_create(&caller->thread, NULL, caller_main, caller), 0);
}

/* It waits in the queue, where it holds no worker, and nothing large overtakes it. */
TEST(large_jobs_wait_for_memory)
{
    struct worker_pool *pool = pool_with_memory(4, 100);
    const int64_t deadline = clock_monotonic_ms() + FAR_MS;
    struct caller first, second, third, fourth;
    struct held held[4];

    call_with_memory(&first, pool, &held[0], 60, deadline);
    sem_wait(&held[0].running);
    call_with_memory(&second, pool, &held[1], 50, deadline);
    wait_for_depth(pool, 1);
    call_with_memory(&third, pool, &held[2], 30, deadline);
    wait_for_depth(pool, 2);
    call_with_memory(&fourth, pool, &held[3], 20, deadline);
    wait_for_depth(pool, 3);
    for (int i = 0; i < 20; i++)
        run_small(pool);
    assert_int_equal(worker_pool_queue_depth(pool), 3);
    assert_int_equal(worker_pool_busy(pool), 1);
    let_go(&first, &held[0]);
    for (size_t i = 1; i < 4; i++) /* all fit now, and all three workers know */
        sem_wait(&held[i].running);
    let_go(&second, &held[1]);
    let_go(&third, &held[2]);
    let_go(&fourth, &held[3]);
    worker_pool_free(pool);
}

TEST(what_is_larger_than_the_budget_runs_alone)
{
    struct worker_pool *pool = pool_with_memory(2, 100);
    const int64_t deadline = clock_monotonic_ms() + FAR_MS;
    struct caller huge, next;
    struct held held[2];

    call_with_memory(&huge, pool, &held[0], 1000, deadline);
    sem_wait(&held[0].running);
    call_with_memory(&next, pool, &held[1], 1, deadline);
    wait_for_depth(pool, 1);
    let_go(&huge, &held[0]);
    sem_wait(&held[1].running);
    let_go(&next, &held[1]);
    worker_pool_free(pool);
}

TEST(waiting_for_memory_ends_at_the_deadline)
{
    struct worker_pool *pool = pool_with_memory(2, 100);
    struct caller first, late;
    struct held held[2];

    call_with_memory(&first, pool, &held[0], 100, clock_monotonic_ms() + FAR_MS);
    sem_wait(&held[0].running);
    call_with_memory(&late, pool, &held[1], 1, clock_monotonic_ms() + 30);
    pthread_join(late.thread, NULL);
    assert_fails(late.err, ERROR_DEADLINE, late.ok);
    assert_int_equal(worker_pool_queue_depth(pool), 0);
    let_go(&first, &held[0]);
    worker_pool_free(pool);
}

/* One that gives up lets those behind it run, when these fit. */
TEST(who_gives_up_holds_up_nobody)
{
    struct worker_pool *pool = pool_with_memory(3, 100);
    const int64_t deadline = clock_monotonic_ms() + FAR_MS;
    struct caller first, late, fitting;
    atomic_bool gone = false;
    struct held held[3];

    call_with_memory(&first, pool, &held[0], 60, deadline);
    sem_wait(&held[0].running);
    held_init(&held[1]);
    late = (struct caller){
        .pool = pool,
        .job = {.run = hold, .arg = &held[1], .large = true, .memory = 50, .gone = &gone},
        .deadline_ms = deadline,
    };
    assert_int_equal(pthread_create(&late.thread, NULL, caller_main, &late), 0);
    wait_for_depth(pool, 1);
    call_with_memory(&fitting, pool, &held[2], 30, deadline);
    wait_for_depth(pool, 2);
    atomic_store(&gone, true);
    pthread_join(late.thread, NULL);
    assert_fails(late.err, ERROR_DEADLINE, late.ok);
    wait_for_depth(pool, 0);
    sem_wait(&held[2].running);
    let_go(&fitting, &held[2]);
    let_go(&first, &held[0]);
    worker_pool_free(pool);
}

/* ---- scarce jobs */

static struct worker_pool *pool_with_scarce(int workers, int scarce_max)
{
    struct error err = {0};
    struct worker_pool *pool = worker_pool_new(
        &(struct worker_pool_options){.workers = workers, .queue_max = 8, .scarce_max = scarce_max},
        &err);

    assert_non_null(pool);
    return pool;
}

static void call_scarce(struct caller *caller, struct worker_pool *pool, struct held *held,
                        int64_t deadline_ms)
{
    held_init(held);
    *caller = (struct caller){
        .pool = pool,
        .job = {.run = hold, .arg = held, .large = true, .scarce = true},
        .deadline_ms = deadline_ms,
    };
    assert_int_equal(pthread_create(&caller->thread, NULL, caller_main, caller), 0);
}

/* The others wait in the queue, where they hold no worker, and up nothing that is not scarce. */
TEST(few_scarce_jobs_run_at_a_time)
{
    for (int max = 1; max <= 2; max++) {
        enum { SCARCE = 5 };
        struct worker_pool *pool = pool_with_scarce(4, max);
        const int64_t deadline = clock_monotonic_ms() + FAR_MS;
        struct caller callers[SCARCE], large;
        struct held held[SCARCE], other;

        for (int i = 0; i < SCARCE; i++) {
            call_scarce(&callers[i], pool, &held[i], deadline);
            if (i < max)
                sem_wait(&held[i].running);
            wait_for_depth(pool, i < max ? 0 : i + 1 - max);
        }
        for (int i = 0; i < 20; i++)
            run_small(pool);
        held_init(&other);
        call_large(&large, pool, hold, &other, deadline);
        sem_wait(&other.running);
        assert_int_equal(worker_pool_busy(pool), max + 1);
        assert_int_equal(worker_pool_queue_depth(pool), SCARCE - max);
        let_go(&large, &other);
        for (int i = 0; i < SCARCE; i++) { /* each one's end is the next one's turn */
            let_go(&callers[i], &held[i]);
            if (i + max < SCARCE)
                sem_wait(&held[i + max].running);
            assert_int_equal(worker_pool_busy(pool), i + max < SCARCE ? max : SCARCE - 1 - i);
        }
        worker_pool_free(pool);
    }
}

TEST(waiting_for_a_turn_ends_at_the_deadline)
{
    struct worker_pool *pool = pool_with_scarce(2, 1);
    struct caller first, late;
    struct held held[2];

    call_scarce(&first, pool, &held[0], clock_monotonic_ms() + FAR_MS);
    sem_wait(&held[0].running);
    call_scarce(&late, pool, &held[1], clock_monotonic_ms() + 30);
    pthread_join(late.thread, NULL);
    assert_fails(late.err, ERROR_DEADLINE, late.ok);
    assert_int_equal(worker_pool_queue_depth(pool), 0);
    let_go(&first, &held[0]);
    worker_pool_free(pool);
}

TEST(each_worker_has_its_state)
{
    struct states states = {.fail_from = 3};
    struct niceness niceness = {0};
    struct error err = {0};
    const struct worker_pool_options options = {.workers = 3,
                                                .queue_max = 1,
                                                .state_new = state_new,
                                                .state_free = state_free,
                                                .ctx = &states};

    struct worker_pool *pool = worker_pool_new(&options, &err);
    assert_non_null(pool);
    assert_int_equal(states.made, 3);
    assert_true(worker_pool_run(pool, &(struct pool_job){.run = look_at_niceness, .arg = &niceness},
                                clock_monotonic_ms() + FAR_MS, &err));
    assert_non_null(niceness.state);
    int nicer = getpriority(PRIO_PROCESS, 0) + 5;
    assert_int_equal(niceness.value, nicer < NICEST ? nicer : NICEST);
    worker_pool_free(pool);
    assert_int_equal(states.freed, 3);
}

TEST(a_state_that_cannot_be_made_fails_the_pool)
{
    for (int fail_from = 0; fail_from < 3; fail_from++) {
        struct states states = {.fail_from = fail_from};
        struct error err = {0};
        assert_null(worker_pool_new(&(struct worker_pool_options){.workers = 3,
                                                                  .queue_max = 1,
                                                                  .state_new = state_new,
                                                                  .state_free = state_free,
                                                                  .ctx = &states},
                                    &err));
        assert_int_equal(err.code, ERROR_CONFIG);
        assert_int_equal(states.freed, fail_from);
    }
    worker_pool_free(NULL);
}

struct storm {
    struct worker_pool *pool;
    atomic_int ran, accepted;
};

static void *storm_main(void *arg)
{
    struct storm *storm = arg;

    for (int i = 0; i < 500; i++) {
        struct error err = {0};
        int64_t deadline = clock_monotonic_ms() + i % 3;
        struct pool_job job = {.run = add_one, .arg = &storm->ran, .large = i % 2 == 1};
        if (worker_pool_run(storm->pool, &job, deadline, &err))
            atomic_fetch_add(&storm->accepted, 1);
        else if (err.code != ERROR_OVERLOADED && err.code != ERROR_DEADLINE)
            abort();
    }
    return NULL;
}

TEST(what_is_accepted_runs_once)
{
    struct storm storm = {.pool = pool_of(2, 3)};
    pthread_t threads[8];

    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm_main, &storm), 0);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(storm.ran, storm.accepted);
    assert_true(storm.ran > 0);
    assert_int_equal(worker_pool_queue_depth(storm.pool), 0);
    assert_int_equal(worker_pool_busy(storm.pool), 0);
    worker_pool_free(storm.pool);
}

static atomic_int begun;

static void begin_slowly(void *state)
{
    usleep(100000);
    atomic_fetch_add(&begun, 1);
}

/* What need not be ready at once holds up neither the start nor, for ever, a job. */
TEST(each_thread_begins_in_its_own_time)
{
    struct worker_pool_options options = {.workers = 3, .queue_max = 8, .begin = begin_slowly};
    struct error err = {0};
    int64_t start_ms = clock_monotonic_ms();
    struct worker_pool *pool = worker_pool_new(&options, &err);

    assert_non_null(pool);
    assert_true(atomic_load(&begun) < 3 || clock_monotonic_ms() - start_ms >= 100);
    worker_pool_free(pool);
    assert_int_equal(atomic_load(&begun), 3);
}

TEST_MAIN(NULL, NULL)
