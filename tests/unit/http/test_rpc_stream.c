#include "../test_cases.h"
#include "http/rpc_stream.h"

#include "base/clock.h"
#include "base/threads.h"
#include "http/exchange.h"
#include "http/reaper.h"

enum { BODY_MAX = 1 << 20, STALL_MS = 10000, WRITTEN = 16 * RPC_OUT_MAX };

static atomic_int wakes;
static const struct route route;

/* A call and what is around it. */
struct world {
    struct byte_budget budget;
    struct server_options options;
    struct admission admission;
    struct exchange x;
    struct rpc_stream *stream;
};

static void wake(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&wakes, 1);
}

/* What h2_stream.c does when the connection wakes it. */
static void wake_stream(void *ctx)
{
    struct world *w = ctx;

    wake(w);
}

static void pass_on_fate(struct world *w)
{
    struct error err;

    if (connection_fate(w->x.connection, &err) == CONNECTION_REFUSED)
        rpc_fail(w->stream, &err);
}

static struct world *world_new(int64_t budget)
{
    struct world *w = calloc(1, sizeof(*w));
    struct error err = {0};

    w->budget.max = budget;
    w->options = (struct server_options){.budget = &w->budget, .request_timeout_ms = 1000};
    w->admission.options = &w->options;
    w->admission.cut_ms = INT64_MAX;
    w->admission.connections =
        connections_new(&(struct connections_options){.max_connections = 4,
                                                      .max_body_bytes = BODY_MAX,
                                                      .body_stall_ms = STALL_MS,
                                                      .body_min_rate = 1024,
                                                      .budget = &w->budget},
                        &err);
    assert_non_null(w->admission.connections);
    w->x.admission = &w->admission;
    w->x.connection = connections_add_stream(w->admission.connections, wake_stream, w);
    w->x.route = &route;
    w->x.call_deadline_ms = INT64_MAX;
    connection_begin_body(w->x.connection, "id", 0);
    w->stream = rpc_stream_new(&w->x, wake, w);
    atomic_store(&wakes, 0);
    return w;
}

static void world_done(struct world *w)
{
    rpc_stream_free(w->stream);
    connections_remove(w->x.connection);
    connections_free(w->admission.connections);
    assert_int_equal(atomic_load(&w->budget.used), 0);
    free(w);
}

static void put(struct world *w, const char *text)
{
    rpc_put(w->stream, bytes_from_str(text));
}

static void assert_reads(struct world *w, const char *expected)
{
    struct error err = {0};
    char out[64];
    size_t n;

    assert_true(rpc_read(w->stream, out, *expected != '\0' ? strlen(expected) : 1, &n, &err));
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(out, expected, n);
}

TEST(what_is_put_is_read)
{
    struct world *w = world_new(1000);

    put(w, "ab");
    put(w, "c");
    assert_int_equal(atomic_load(&w->budget.used), 3);
    assert_reads(w, "abc");
    assert_int_equal(atomic_load(&w->budget.used), 0);
    put(w, "d");
    rpc_put_end(w->stream);
    assert_reads(w, "d");
    assert_reads(w, "");
    assert_reads(w, ""); /* and stays so */
    assert_int_equal(rpc_taken(w->stream), 4);
    assert_int_equal(rpc_taken(w->stream), 0);
    world_done(w);
}

TEST(the_window_is_given_back_in_large_steps)
{
    static uint8_t data[100000];
    struct world *w = world_new(1 << 20);
    struct error err = {0};
    size_t n;

    for (int i = 0; i < 3; i++) {
        rpc_put(w->stream, bytes_of(data, sizeof(data)));
        assert_true(rpc_read(w->stream, data, sizeof(data), &n, &err));
        assert_int_equal(n, sizeof(data));
    }
    assert_int_equal(atomic_load(&wakes), 2); /* above 128 KiB, and as long as nobody asks */
    assert_int_equal(rpc_taken(w->stream), sizeof(data) * 3);
    world_done(w);
}

TEST(a_full_budget_ends_it)
{
    struct world *w = world_new(4);
    struct error err = {0};
    size_t n;
    char out;

    put(w, "abc");
    put(w, "de");
    assert_fails(err, ERROR_OVERLOADED, rpc_read(w->stream, &out, 1, &n, &err));
    put(w, "f"); /* which nobody will read */
    assert_int_equal(atomic_load(&w->budget.used), 3);
    rpc_drop(w->stream);
    assert_int_equal(atomic_load(&w->budget.used), 0);
    put(w, "g");
    assert_int_equal(atomic_load(&w->budget.used), 0);
    world_done(w);
}

TEST(the_deadline_and_the_cut)
{
    struct world *w = world_new(1000);
    struct error err = {0};
    size_t n;
    char out;

    w->x.call_deadline_ms = clock_monotonic_ms() + 20;
    assert_fails(err, ERROR_DEADLINE, rpc_read(w->stream, &out, 1, &n, &err));
    assert_fails(err, ERROR_DEADLINE, rpc_write(w->stream, bytes_from_str("x"), &err));
    assert_fails(err, ERROR_DEADLINE, rpc_wait(w->stream, 10000, &err));
    world_done(w);
    w = world_new(1000);
    atomic_store(&w->admission.cut_ms, clock_monotonic_ms() + 20);
    assert_fails(err, ERROR_SHUTTING_DOWN, rpc_wait(w->stream, 10000, &err));
    world_done(w);
}

/* ---- a handler that waits, on a thread */

struct waiter {
    struct world *w;
    pthread_t thread;
    bool writes;
    bool ok;
    struct error err;
};

static void *wait_main(void *arg)
{
    static uint8_t data[WRITTEN];
    struct waiter *waiter = arg;
    size_t n;
    char out;

    waiter->ok = waiter->writes
                     ? rpc_write(waiter->w->stream, bytes_of(data, sizeof(data)), &waiter->err)
                     : rpc_read(waiter->w->stream, &out, 1, &n, &waiter->err);
    return NULL;
}

static void waiter_start(struct waiter *waiter, struct world *w, bool writes)
{
    struct error err = {0};

    *waiter = (struct waiter){.w = w, .writes = writes};
    assert_true(thread_start(&waiter->thread, wait_main, waiter, &err));
}

static void waiter_end(struct waiter *waiter)
{
    pthread_join(waiter->thread, NULL);
}

TEST(who_waits_is_woken)
{
    struct waiter waiter;
    struct error gone = {.code = ERROR_UNAVAILABLE, .message = "gone"};

    for (int i = 0; i < 3; i++) {
        struct world *w = world_new(1000);
        waiter_start(&waiter, w, false);
        sleep_ms(i == 0 ? 0 : 5); /* before it waits, and while it does */
        if (i == 1)
            put(w, "x");
        else
            rpc_fail(w->stream, &gone);
        waiter_end(&waiter);
        assert_int_equal(waiter.ok, i == 1);
        if (i != 1)
            assert_string_equal(waiter.err.message, "gone");
        world_done(w);
    }
}

TEST(writing_waits_for_room)
{
    struct world *w = world_new(1000);
    static uint8_t out[RPC_OUT_MAX];
    struct waiter waiter;
    size_t all = 0;

    waiter_start(&waiter, w, true);
    while (all < WRITTEN) {
        size_t n = rpc_take(w->stream, out, 10000);
        assert_true(rpc_unsent(w->stream) <= RPC_OUT_MAX);
        all += n;
        if (n == 0)
            sleep_ms(1);
    }
    waiter_end(&waiter);
    assert_true(waiter.ok);
    assert_int_equal(all, WRITTEN);
    assert_true(rpc_has_written(w->stream));
    assert_true(atomic_load(&wakes) > 0);
    world_done(w);
}

TEST(a_client_that_takes_nothing)
{
    struct world *w = world_new(1000);
    struct waiter waiter;

    clock_set_ahead(1); /* or it would sleep through what comes */
    waiter_start(&waiter, w, true);
    while (rpc_unsent(w->stream) < RPC_OUT_MAX)
        sleep_ms(1);
    clock_set_ahead(29000);
    sleep_ms(10);
    assert_false(rpc_is_stuck(w->stream));
    clock_set_ahead(31000);
    waiter_end(&waiter);
    clock_set_ahead(0);
    assert_int_equal(waiter.err.code, ERROR_TOO_SLOW);
    assert_true(rpc_is_stuck(w->stream));
    world_done(w);
}

/* Its handler waits for room, or does not wait any more. */
static bool is_full(struct world *w)
{
    while (rpc_unsent(w->stream) < RPC_OUT_MAX && !rpc_is_stuck(w->stream))
        sleep_ms(1);
    return !rpc_is_stuck(w->stream);
}

/* Take that much each time, as long as it is not ended; for how long in all is returned. */
static int64_t take_slowly(struct world *w, size_t bytes, int64_t every_ms, size_t most)
{
    static uint8_t out[RPC_OUT_MAX];
    int64_t ahead_ms = 1;

    clock_set_ahead(ahead_ms);
    for (size_t all = 0; all < most && is_full(w); all += bytes) {
        clock_set_ahead(ahead_ms += every_ms);
        assert_int_equal(rpc_take(w->stream, out, bytes), bytes);
    }
    return ahead_ms;
}

TEST(a_client_that_takes_a_byte_now_and_then)
{
    struct world *w = world_new(1000);
    struct waiter waiter;

    clock_set_ahead(1);
    waiter_start(&waiter, w, true);
    int64_t took_ms = take_slowly(w, 1, 9000, 100);
    rpc_fail(w->stream, &(struct error){.code = ERROR_UNAVAILABLE});
    waiter_end(&waiter);
    clock_set_ahead(0);
    assert_true(rpc_is_stuck(w->stream));
    assert_int_equal(waiter.err.code, ERROR_TOO_SLOW);
    assert_in_range(took_ms, 30000, 40000);
    world_done(w);
}

TEST(a_client_that_is_slow_but_fast_enough)
{
    struct world *w = world_new(1000);
    struct waiter waiter;

    clock_set_ahead(1);
    waiter_start(&waiter, w, true);
    int64_t took_ms = take_slowly(w, RPC_OUT_MAX, 4000, WRITTEN - RPC_OUT_MAX);
    waiter_end(&waiter);
    clock_set_ahead(0);
    assert_true(waiter.ok);
    assert_true(took_ms > 45000);
    world_done(w);
}

static void look(struct world *w, int64_t ahead_ms)
{
    struct connections *all = w->admission.connections;

    clock_set_ahead(ahead_ms);
    pthread_mutex_lock(&all->mutex);
    reaper_look(all);
    pthread_mutex_unlock(&all->mutex);
    pass_on_fate(w);
}

TEST(the_clock_for_bodies_runs_while_the_client_is_awaited)
{
    struct world *w = world_new(1000);
    int64_t ahead_ms = 3 * STALL_MS;
    struct waiter waiter;
    struct error err = {0};

    look(w, ahead_ms); /* the handler is busy with something else */
    assert_true(rpc_wait(w->stream, 0, &err));
    waiter_start(&waiter, w, false);
    while (connection_refused_status(w->x.connection) == 0) {
        sleep_ms(1);
        look(w, ahead_ms += STALL_MS + 1000); /* it may have begun to wait only now */
    }
    waiter_end(&waiter);
    clock_set_ahead(0);
    assert_int_equal(waiter.err.code, ERROR_TOO_SLOW);
    assert_int_equal(connection_refused_status(w->x.connection), 408);
    world_done(w);
}

/* ---- what is kept */

TEST(what_is_kept_is_a_body)
{
    struct world *w = world_new(1 << 20);
    static uint8_t large[BODY_MAX];
    struct error err = {0};

    assert_true(rpc_keep(w->stream, bytes_from_str("abc"), &err));
    assert_true(rpc_keep(w->stream, bytes_from_str("de"), &err));
    assert_fails(err, ERROR_TOO_LARGE, rpc_keep(w->stream, bytes_of(large, sizeof(large)), &err));
    rpc_put_end(w->stream);
    assert_reads(w, "");
    assert_true(bytes_equal(rpc_kept(w->stream), bytes_from_str("abcde")));
    assert_true(rpc_deadline(w->stream) > clock_monotonic_ms());
    assert_true(rpc_deadline(w->stream) <= clock_monotonic_ms() + 1000);
    world_done(w);
}

TEST(an_evicted_body_takes_no_more)
{
    struct world *w = world_new(1 << 20);
    struct error err = {0}, why = {0};

    assert_true(rpc_keep(w->stream, bytes_from_str("abc"), &err));
    error_set(&why, ERROR_OVERLOADED, "evicted");
    connection_refuse(w->x.connection, &why);
    assert_fails(err, ERROR_OVERLOADED, rpc_keep(w->stream, bytes_from_str("d"), &err));
    assert_string_equal(err.message, "evicted");
    rpc_put_end(w->stream);
    size_t n;
    char out;
    assert_fails(err, ERROR_OVERLOADED, rpc_read(w->stream, &out, 1, &n, &err));
    world_done(w);
}

static bool nobody_may(const struct app *app, const struct request *req,
                       const struct caller *caller, struct error *err)
{
    return error_set(err, ERROR_UNAUTHORIZED, "not any more");
}

TEST(a_caller_who_may_no_more_at_the_end)
{
    struct world *w = world_new(1000);
    struct error err = {0};
    size_t n;
    char out;

    w->options.confirm = nobody_may;
    put(w, "x");
    assert_reads(w, "x");
    rpc_put_end(w->stream);
    assert_fails(err, ERROR_UNAUTHORIZED, rpc_read(w->stream, &out, 1, &n, &err));
    world_done(w);
}

TEST_MAIN(NULL, NULL)
