#include "../test_folder.h"
#include "base/clock.h"
#include "events/outbox/outbox.h"
#include "events/outbox/outbox_admin.h"
#include "events/outbox/outbox_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- helpers */

static char dir[TEST_FOLDER_MAX];
static char path[128];

/* Counts, slows down and holds the commits of every connection of this process. */
static _Atomic int commits;
static _Atomic int commit_delay_ms;
static _Atomic bool commits_held;

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* How far the clocks of the test are set ahead: instead of waiting for the outbox's own times. */
static int64_t ahead_ms;

static void pass_ms(int64_t ms)
{
    clock_set_ahead(ahead_ms += ms);
}

static int on_commit(void *ctx)
{
    (void)ctx;
    commits++;
    if (commit_delay_ms > 0)
        sleep_ms(commit_delay_ms);
    while (commits_held)
        sleep_ms(1);
    return 0;
}

static int hook_connection(sqlite3 *handle, char **message, const void *api)
{
    (void)message;
    (void)api;
    sqlite3_commit_hook(handle, on_commit, NULL);
    return SQLITE_OK;
}

static int setup(void **state)
{
    (void)state;
    commit_delay_ms = 0;
    clock_set_ahead(ahead_ms = 0);
    int status = test_folder_make(dir);
    snprintf(path, sizeof(path), "%s/a/b/outbox.db", dir);
    return status;
}

static int teardown(void **state)
{
    (void)state;
    return test_folder_remove(dir);
}

static int64_t fake_wall;

static int64_t fake_wall_ms(void)
{
    return __atomic_load_n(&fake_wall, __ATOMIC_RELAXED);
}

static void set_fake_wall(int64_t ms)
{
    __atomic_store_n(&fake_wall, ms, __ATOMIC_RELAXED);
}

static struct outbox *open_with(int64_t max_pending, int64_t (*wall_ms)(void))
{
    struct error err = {0};
    struct outbox *outbox = outbox_open(
        &(struct outbox_options){.path = path, .max_pending = max_pending, .wall_ms = wall_ms},
        &err);

    if (outbox == NULL)
        fail_msg("%s", err.message);
    return outbox;
}

static struct outbox *open_default(void)
{
    return open_with(100000, NULL);
}

/* Its threads follow the clocks that pass_ms sets; others wake in time of their own, which says
 * that they are called. */
static struct outbox *open_in_test_time(void)
{
    pass_ms(1);
    return open_default();
}

static bool try_add(struct outbox *outbox, int n, char event_id[UUID_LEN + 1], struct error *err)
{
    char id[SHA256_HEX_LEN + 1];
    char uri[128];

    snprintf(id, sizeof(id), "%064d", n);
    snprintf(uri, sizeof(uri), "file:///data/%s.jpg", id);
    return outbox_add(
        outbox,
        &(struct event){
            .gcs_path = uri, .id = id, .content_type = "image/jpeg", .traceparent = "00-1-2-03"},
        clock_monotonic_ms() + 10000, event_id, err);
}

static void add(struct outbox *outbox, int n)
{
    char event_id[UUID_LEN + 1];
    struct error err = {0};

    if (!try_add(outbox, n, event_id, &err))
        fail_msg("add %d: %s", n, err.message);
}

struct adder {
    struct outbox *outbox;
    int from, count;
    pthread_t thread;
};

static void *adder_main(void *arg)
{
    const struct adder *a = arg;

    for (int i = 0; i < a->count; i++)
        add(a->outbox, a->from + i);
    return NULL;
}

static void add_many(struct outbox *outbox, int from, int count, int threads)
{
    struct adder adders[64];

    for (int i = 0; i < threads; i++) {
        adders[i] = (struct adder){
            .outbox = outbox, .from = from + i * count / threads, .count = count / threads};
        assert_int_equal(pthread_create(&adders[i].thread, NULL, adder_main, &adders[i]), 0);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(adders[i].thread, NULL);
}

static bool take_within(struct outbox *outbox, int64_t ms, struct outbox_row *row)
{
    return outbox_take(outbox, clock_monotonic_ms() + ms, row);
}

static struct outbox_row take(struct outbox *outbox)
{
    struct outbox_row row = {0};

    assert_true(take_within(outbox, 5000, &row));
    return row;
}

/* Everything that is pending, as one flag per number; returns how many. */
static int drain(struct outbox *outbox, bool *seen, int size)
{
    struct outbox_row none = {0};
    int count = 0;

    while (outbox_pending(outbox) > 0) {
        CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
        int n = atoi(row.id);
        if (n >= 0 && n < size)
            seen[n] = true;
        count++;
        outbox_delivered(outbox, &row);
    }
    assert_false(take_within(outbox, 0, &none));
    return count;
}

/* Within `ms` of the outbox's time, and as long as a busy machine takes for that. */
static bool wait_until(bool (*condition)(struct outbox *), struct outbox *outbox, int64_t ms)
{
    for (int looks = 0; !condition(outbox); looks++) {
        if (looks == 20000)
            return false;
        if (ms > 0)
            pass_ms(10);
        ms -= 10;
        sleep_ms(1);
    }
    return true;
}

static bool has_ticked(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    bool ret = !outbox->db_owned && outbox->tick_at_ms > clock_monotonic_ms();
    pthread_mutex_unlock(&outbox->lock);
    return ret;
}

static void let_it_tick(struct outbox *outbox)
{
    pass_ms(OUTBOX_TICK_MS);
    assert_true(wait_until(has_ticked, outbox, 0));
}

static void overwrite(const char *name, off_t at, size_t len)
{
    uint8_t noise[4096];
    int fd = open(name, O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    for (size_t done = 0; done < len; done += sizeof(noise)) {
        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (uint8_t)(random() & 0xff);
        size_t n = len - done < sizeof(noise) ? len - done : sizeof(noise);
        assert_int_equal(pwrite(fd, noise, n, at + (off_t)done), n);
    }
    close(fd);
}

static void suffixed(char out[160], const char *suffix)
{
    snprintf(out, 160, "%s%s", path, suffix);
}

static off_t size_of(const char *suffix)
{
    char name[160];
    struct stat st;

    suffixed(name, suffix);
    return stat(name, &st) == 0 ? st.st_size : -1;
}

static size_t asides(void)
{
    return test_folder_count(dir, "a/b/outbox.db.corrupt-*Z*") -
           test_folder_count(dir, "a/b/outbox.db.corrupt-*-wal") -
           test_folder_count(dir, "a/b/outbox.db.corrupt-*-shm");
}

/* ---- rows */

static void test_add_take_deliver(void **state)
{
    struct outbox *outbox = open_default();
    char event_id[UUID_LEN + 1];
    struct error err = {0};

    (void)state;
    assert_int_equal(outbox_pending(outbox), 0);
    assert_true(try_add(outbox, 7, event_id, &err));
    assert_int_equal(strlen(event_id), UUID_LEN);
    assert_int_equal(outbox_pending(outbox), 1);
    outbox_close(outbox);

    outbox = open_default();
    assert_int_equal(outbox_pending(outbox), 1);
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    assert_string_equal(row.event_id, event_id);
    assert_int_equal(atoi(row.id), 7);
    assert_true(string_starts_with(row.gcs_path, "file:///data/000"));
    assert_string_equal(row.content_type, "image/jpeg");
    assert_string_equal(row.traceparent, "00-1-2-03");
    assert_int_equal(row.attempts, 0);
    assert_true(llabs(row.created_ms - clock_wall_ms()) < 60000);
    struct outbox_row other = {0};
    assert_false(take_within(outbox, 50, &other)); /* nobody else gets it */
    outbox_delivered(outbox, &row);
    assert_int_equal(outbox_pending(outbox), 0);
    add(outbox, 8);
    outbox_delivered(outbox, &row); /* not taken any more: nothing changes */
    outbox_dead_letter(outbox, &row, "x");
    assert_int_equal(outbox_pending(outbox), 1);
    assert_int_equal(outbox_dead(outbox), 0);
    outbox_close(outbox);

    outbox = open_default();
    assert_int_equal(outbox_pending(outbox), 1);
    assert_int_equal(outbox_dead(outbox), 0);
    assert_false(outbox_reconcile_needed(outbox));
    outbox_close(outbox);
    assert_int_equal(size_of("-wal"), -1); /* a clean end leaves one file */
}

static void test_a_pending_row_is_reused(void **state)
{
    struct outbox *outbox = open_default();
    char first[UUID_LEN + 1], second[UUID_LEN + 1];
    struct error err = {0};

    (void)state;
    assert_true(try_add(outbox, 1, first, &err));
    assert_true(try_add(outbox, 1, second, &err));
    assert_string_equal(first, second);
    assert_int_equal(outbox_pending(outbox), 1);
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    outbox_delivered(outbox, &row);
    assert_true(try_add(outbox, 1, second, &err)); /* even if that commit is still to come */
    assert_string_not_equal(first, second);
    assert_int_equal(outbox_pending(outbox), 1);
    outbox_close(outbox);
}

/* Its receiver may have looked before the object was deleted, and then stored again. */
static void test_a_row_that_is_being_delivered_is_not_reused(void **state)
{
    struct outbox *outbox = open_default();
    char first[UUID_LEN + 1], second[UUID_LEN + 1], third[UUID_LEN + 1];
    struct error err = {0};

    (void)state;
    assert_true(try_add(outbox, 1, first, &err));
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    assert_true(try_add(outbox, 1, second, &err));
    assert_string_not_equal(first, second);
    assert_true(try_add(outbox, 1, third, &err)); /* but the one that waits is */
    assert_string_equal(second, third);
    assert_int_equal(outbox_pending(outbox), 2);
    outbox_delivered(outbox, &row);
    CLEANUP(outbox_row_done) struct outbox_row again = take(outbox);
    assert_string_equal(again.event_id, second);
    outbox_delivered(outbox, &again);
    assert_int_equal(outbox_pending(outbox), 0);
    outbox_close(outbox);
}

static void test_max_pending(void **state)
{
    struct outbox *outbox = open_with(3, NULL);
    char event_id[UUID_LEN + 1];
    struct error err = {0};

    (void)state;
    add_many(outbox, 0, 3, 1);
    assert_false(try_add(outbox, 3, event_id, &err));
    assert_int_equal(err.code, ERROR_OVERLOADED);
    assert_string_equal(err.message, "outbox is full: 3 events are waiting for delivery");
    assert_true(try_add(outbox, 2, event_id, &err)); /* reuse costs nothing */
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    outbox_delivered(outbox, &row);
    add(outbox, 3);
    outbox_close(outbox);
}

static void test_put_back_refused_and_dead(void **state)
{
    struct outbox *outbox = open_in_test_time();
    struct outbox_row none = {0};

    (void)state;
    add(outbox, 1);
    CLEANUP(outbox_row_done) struct outbox_row first = take(outbox);
    outbox_put_back(outbox, &first);
    CLEANUP(outbox_row_done) struct outbox_row again = take(outbox);
    assert_int_equal(again.seq, first.seq);
    assert_int_equal(again.attempts, 0);
    int64_t refused_ms = clock_monotonic_ms();
    outbox_refused(outbox, &again, 40000, "HTTP status 400");
    assert_int_equal(outbox_pending(outbox), 1);
    assert_false(take_within(outbox, 200, &none));
    pass_ms(40000);
    CLEANUP(outbox_row_done) struct outbox_row later = take(outbox);
    assert_in_range(clock_monotonic_ms() - refused_ms, 40000, 79999);
    assert_int_equal(later.attempts, 1);
    outbox_dead_letter(outbox, &later, "no hope");
    assert_int_equal(outbox_pending(outbox), 0);
    assert_int_equal(outbox_dead(outbox), 1);
    assert_false(take_within(outbox, 100, &none));
    outbox_close(outbox);
    outbox = open_default();
    assert_int_equal(outbox_pending(outbox), 0);
    assert_int_equal(outbox_dead(outbox), 1);
    outbox_close(outbox);
}

static void test_clock_jumps_do_not_stall(void **state)
{
    (void)state;
    set_fake_wall(1800000000000);
    pass_ms(1);
    struct outbox *outbox = open_with(10, fake_wall_ms);
    add(outbox, 1);
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    outbox_refused(outbox, &row, 3600000, "x"); /* cut to 60 s */
    struct outbox_row none = {0};
    assert_false(take_within(outbox, 100, &none));
    set_fake_wall(1800000000000 - 86400000);
    pass_ms(OUTBOX_TICK_MS); /* for now, and the outbox looks at the wall clock again */
    CLEANUP(outbox_row_done) struct outbox_row second = take(outbox);
    outbox_refused(outbox, &second, 50000, "x");
    assert_false(take_within(outbox, 100, &none));
    set_fake_wall(1800000000000);
    pass_ms(OUTBOX_TICK_MS);
    CLEANUP(outbox_row_done) struct outbox_row third = take(outbox);
    assert_int_equal(third.attempts, 2);
    outbox_close(outbox);
}

static bool taken_early;

static void *waiting_taker(void *arg)
{
    struct outbox_row row = {0};

    taken_early = take_within(arg, 60000, &row);
    outbox_row_done(&row);
    return NULL;
}

static void test_wake(void **state)
{
    struct outbox *outbox = open_default();
    pthread_t thread;
    int64_t start_ms = clock_monotonic_ms();
    struct outbox_row none = {0};

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, waiting_taker, outbox), 0);
    sleep_ms(50);
    outbox_wake(outbox);
    pthread_join(thread, NULL);
    assert_false(taken_early);
    add(outbox, 1);
    assert_false(take_within(outbox, 60000, &none));
    assert_true(clock_monotonic_ms() - start_ms < 10000);
    outbox_close(outbox);
}

/* ---- commits */

static void test_concurrent_adds_share_commits(void **state)
{
    struct outbox *outbox = open_default();

    (void)state;
    int before = commits;
    commit_delay_ms = 20; /* as slow as a disk, and long enough for 64 threads to be scheduled */
    add_many(outbox, 0, 1280, 64);
    assert_int_equal(outbox_pending(outbox), 1280);
    assert_in_range(commits - before, 1, 1280 / 10);
    commit_delay_ms = 0;
    outbox_close(outbox);
}

static void *slow_add(void *arg)
{
    add(arg, 1);
    return NULL;
}

static void test_an_add_is_withdrawn_at_its_deadline(void **state)
{
    struct outbox *outbox = open_default();
    pthread_t thread;
    char event_id[UUID_LEN + 1];
    struct error err = {0};
    const struct event event = {"file:///x", "2", "image/jpeg", "", NULL, NULL};

    (void)state;
    int before = commits;
    commits_held = true;
    assert_int_equal(pthread_create(&thread, NULL, slow_add, outbox), 0);
    while (commits == before)
        sleep_ms(1);
    int64_t start_ms = clock_monotonic_ms();
    assert_false(outbox_add(outbox, &event, start_ms + 50, event_id, &err));
    assert_int_equal(err.code, ERROR_DEADLINE);
    assert_in_range(clock_monotonic_ms() - start_ms, 50, 5000);
    commits_held = false;
    pthread_join(thread, NULL);
    outbox_close(outbox);
    outbox = open_default();
    assert_int_equal(outbox_pending(outbox), 1);
    outbox_close(outbox);
}

enum { KILL_THREADS = 4, KILL_MAX = 200000 };

static int kill_pipe;
static _Atomic int kill_next;

static void *killed_adder(void *arg)
{
    for (;;) {
        char event_id[UUID_LEN + 1];
        struct error err = {0};
        int n = kill_next++;

        if (try_add(arg, n, event_id, &err) && write(kill_pipe, &n, sizeof(n)) != sizeof(n))
            _exit(1);
    }
    return NULL;
}

static void child_adds_until_killed(int fd, int from)
{
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is killed leaves nothing that goes on */
    struct outbox *outbox = open_default();
    kill_pipe = fd;
    kill_next = from;
    for (int i = 0; i < KILL_THREADS; i++)
        if (pthread_create(&thread, NULL, killed_adder, outbox) != 0)
            _exit(1);
    for (;;)
        pause();
}

static void test_acknowledged_adds_survive_kill(void **state)
{
    bool *acknowledged = calloc(KILL_MAX, sizeof(bool));
    bool *seen = calloc(KILL_MAX, sizeof(bool));
    int from = 0;
    int total = 0;

    (void)state;
    for (int round = 0; round < 6; round++) {
        int fds[2];
        int n;

        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        if (child == 0)
            child_adds_until_killed(fds[1], from);
        close(fds[1]);
        assert_int_equal(read(fds[0], &n, sizeof(n)), sizeof(n)); /* it has begun */
        acknowledged[n] = true;
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
        int64_t kill_ms = clock_monotonic_ms() + 20 + random() % 200;
        while (clock_left_ms(kill_ms) > 0)
            while (read(fds[0], &n, sizeof(n)) == sizeof(n))
                acknowledged[n] = true;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(fds[0], &n, sizeof(n)) == sizeof(n)) {
            acknowledged[n] = true;
            from = n > from ? n : from;
        }
        from += 1000; /* numbers that were never acknowledged */
        close(fds[0]);
    }
    struct outbox *outbox = open_default();
    assert_int_equal(asides(), 0); /* a kill is no damage */
    drain(outbox, seen, KILL_MAX);
    for (int i = 0; i < KILL_MAX; i++) {
        total += acknowledged[i];
        if (acknowledged[i] && !seen[i])
            fail_msg("event %d was acknowledged and lost", i);
    }
    assert_true(total > 50);
    outbox_close(outbox);
    free(acknowledged);
    free(seen);
}

/* The -wal cannot grow; returns the limit that was. */
static struct rlimit fill_disk(void)
{
    struct rlimit normal;

    getrlimit(RLIMIT_FSIZE, &normal);
    struct rlimit tight = {.rlim_cur = (rlim_t)size_of("-wal"), .rlim_max = normal.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    return normal;
}

static void empty_disk(const struct rlimit *normal)
{
    setrlimit(RLIMIT_FSIZE, normal);
    signal(SIGXFSZ, SIG_DFL);
}

static void test_disk_full(void **state)
{
    struct outbox *outbox = open_default();
    char event_id[UUID_LEN + 1];
    struct error err = {0};

    (void)state;
    add_many(outbox, 0, 5, 1);
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    struct rlimit normal = fill_disk();
    outbox_delivered(outbox, &row);
    bool added = try_add(outbox, 10, event_id, &err);
    struct outbox_row other = {0};
    bool taken = take_within(outbox, 2000, &other); /* deliveries go on */
    empty_disk(&normal);

    assert_false(added);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_true(taken);
    assert_int_not_equal(other.seq, row.seq);
    outbox_row_done(&other);
    assert_int_equal(outbox_pending(outbox), 4);
    add(outbox, 11);
    assert_int_equal(outbox_pending(outbox), 5);
    assert_false(outbox_reconcile_needed(outbox));
    outbox_close(outbox);
    outbox = open_default(); /* 5 - delivered + the one that was added */
    assert_int_equal(outbox_pending(outbox), 5);
    assert_int_equal(asides(), 0);
    outbox_close(outbox);
}

static bool database_is_empty(struct outbox *outbox)
{
    sqlite3 *handle = NULL;
    sqlite3_stmt *statement = NULL;
    bool ret;

    (void)outbox;
    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(handle, "SELECT 1 FROM event", -1, &statement, NULL),
                     SQLITE_OK);
    ret = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return ret;
}

/* Without another add or settlement, whose commit it could share. */
static void test_a_settlement_is_tried_again(void **state)
{
    struct outbox *outbox = open_in_test_time();

    (void)state;
    add(outbox, 1);
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    struct rlimit normal = fill_disk();
    outbox_delivered(outbox, &row);
    sleep_ms(100);
    empty_disk(&normal);

    assert_true(wait_until(database_is_empty, outbox, 3000));
    outbox_close(outbox);
}

/* Rows that waited for about a tick: a busy machine makes a few. */
static _Atomic int late;

/* Rows wait for takers and takers for rows: none of either is left waiting for a tick. */
static void *take_all(void *arg)
{
    for (;;) {
        CLEANUP(outbox_row_done) struct outbox_row row = {0};
        if (!take_within(arg, 60000, &row))
            return NULL;
        late += clock_wall_ms() - row.created_ms > 800;
        outbox_delivered(arg, &row);
    }
}

enum { TAKERS = 4 };

static bool all_takers_wait(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    bool ret = outbox->takers == TAKERS && outbox->counts.pending == 0;
    pthread_mutex_unlock(&outbox->lock);
    return ret;
}

static void test_takers_wake_at_once(void **state)
{
    struct outbox *outbox = open_default();
    pthread_t takers[TAKERS];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(takers); i++)
        assert_int_equal(pthread_create(&takers[i], NULL, take_all, outbox), 0);
    for (int threads = 1; threads <= 64; threads *= 8) { /* who are at the database all the time */
        add_many(outbox, threads * 1000, 1000, threads);
        assert_true(size_of("-wal") < 2 * OUTBOX_CHECKPOINT_FRAMES * (4096 + 24));
    }
    assert_in_range(late, 0, 300);
    late = 0;
    for (int i = 0; i < 50; i++) { /* one at a time, to threads that all sleep */
        add(outbox, 100000 + i);
        assert_true(wait_until(all_takers_wait, outbox, 0));
    }
    assert_in_range(late, 0, 10);
    outbox_wake(outbox);
    for (size_t i = 0; i < ARRAY_SIZE(takers); i++)
        pthread_join(takers[i], NULL);
    assert_int_equal(outbox_pending(outbox), 0);
    outbox_close(outbox);
}

/* ---- opening */

static void assert_cannot_open(const char *at, const char *why)
{
    struct error err = {0};
    int64_t start_ms = clock_monotonic_ms();

    assert_null(outbox_open(
        &(struct outbox_options){.path = at, .max_pending = 1, .lock_wait_ms = 200}, &err));
    assert_int_equal(err.code, ERROR_CONFIG);
    if (strstr(err.message, why) == NULL)
        fail_msg("'%s' is not in '%s'", why, err.message);
    assert_true(clock_monotonic_ms() - start_ms < 5000);
}

static void test_lock(void **state)
{
    struct outbox *outbox = open_default();

    (void)state;
    int64_t start_ms = clock_monotonic_ms();
    assert_cannot_open(path, "one outbox serves one service");
    assert_true(clock_monotonic_ms() - start_ms >= 200);
    outbox_close(outbox);
    outbox_close(open_default());
}

static void run_sql(const char *sql)
{
    sqlite3 *handle = NULL;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(handle);
}

static void test_files_that_are_refused(void **state)
{
    (void)state;
    outbox_close(open_default());
    run_sql("PRAGMA user_version = 1000");
    assert_cannot_open(path, "newer version");
    assert_int_equal(asides(), 0);
    unlink(path);
    run_sql("CREATE TABLE album (title TEXT)");
    assert_cannot_open(path, "not an outbox");
    assert_int_equal(asides(), 0);
    assert_cannot_open("/dev/null/none/outbox.db", "/dev/null");
}

/* ---- records */

static int64_t add_with_record(struct outbox *outbox, int n, const char *record)
{
    char event_id[UUID_LEN + 1], id[SHA256_HEX_LEN + 1];
    struct error err = {0};
    int64_t seq = 0;

    snprintf(id, sizeof(id), "%064d", n);
    if (!outbox_add(outbox,
                    &(struct event){.gcs_path = "file:///data/x.jpg",
                                    .id = id,
                                    .content_type = "image/jpeg",
                                    .traceparent = "",
                                    .record = record,
                                    .record_seq = &seq},
                    clock_monotonic_ms() + 10000, event_id, &err))
        fail_msg("%s", err.message);
    assert_true(seq > 0);
    return seq;
}

static bool append_record(void *ctx, int64_t seq, const char *record, struct error *err)
{
    (void)seq, (void)err;
    strcat(ctx, record);
    return true;
}

static void assert_records(struct outbox *outbox, const char *expected)
{
    char all[256] = "";
    struct error err = {0};

    if (!outbox_records(outbox, append_record, all, &err))
        fail_msg("%s", err.message);
    assert_string_equal(all, expected);
}

static void test_records_stay_until_they_are_forgotten(void **state)
{
    struct error err = {0};

    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct outbox *outbox = open_default();
        add_with_record(outbox, 1, "a");
        add_with_record(outbox, 1, "b"); /* the pending row is reused */
        add_with_record(outbox, 2, "c");
        raise(SIGKILL);
    }
    waitpid(pid, NULL, 0);
    struct outbox *outbox = open_default();
    assert_false(outbox_reconcile_needed(outbox)); /* killed between commits */
    assert_records(outbox, "abc");
    assert_int_equal(outbox_pending(outbox), 2);
    int64_t seqs[] = {add_with_record(outbox, 3, "d"), 12345};
    assert_records(outbox, "abcd");
    assert_true(outbox_forget(outbox, seqs, 2, &err));
    assert_records(outbox, "abc");
    outbox_close(outbox);
}

static void test_an_outbox_of_version_1_gets_records(void **state)
{
    (void)state;
    struct outbox *outbox = open_default();
    add(outbox, 1);
    outbox_close(outbox);
    run_sql("DROP TABLE record; PRAGMA user_version = 1");
    outbox = open_default();
    assert_int_equal(outbox_pending(outbox), 1);
    add_with_record(outbox, 2, "a");
    assert_records(outbox, "a");
    outbox_close(outbox);
    assert_int_equal(asides(), 0);
}

static void test_records_are_salvaged(void **state)
{
    (void)state;
    struct outbox *outbox = open_default();
    add_with_record(outbox, 1, "a");
    outbox_close(outbox);
    run_sql("DROP INDEX event_dead");
    outbox = open_default();
    assert_int_equal(asides(), 1);
    assert_records(outbox, "a");
    outbox_close(outbox);
}

/* ---- damage */

static bool reconcile_is_needed(struct outbox *outbox)
{
    return outbox_reconcile_needed(outbox);
}

enum { PAGE = 4096, END = -1, MIDDLE = -2, INDEX = -3 };

/* Without it every row can still be read. */
static off_t page_of_index(void)
{
    sqlite3 *handle = NULL;
    sqlite3_stmt *statement = NULL;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(handle, "SELECT rootpage FROM sqlite_schema WHERE name = 'event_due'",
                           -1, &statement, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    off_t page = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(handle);
    return (page - 1) * PAGE;
}

enum { ROWS = 300 };

struct damage {
    const char *name;
    enum { NOISE, CUT, DELETE, WRITE_VERSION } how;
    const char *suffix; /* of the file */
    off_t at, len;      /* MIDDLE, INDEX, END: of the file as it is */
    bool heals;         /* the -wal has what is lost: nothing to recover */
    bool killed;        /* after a kill, when there is a -wal; otherwise after a clean end */
    int salvaged;       /* rows that must be saved, at least */
};

static void inflict(const struct damage *d)
{
    char name[160];
    off_t size = size_of(d->suffix);
    off_t at = d->at == MIDDLE ? size / 2 : d->at == INDEX ? page_of_index() : d->at;

    suffixed(name, d->suffix);
    if (d->how == NOISE) {
        at -= at % PAGE;
        overwrite(name, at, (size_t)(d->len == END ? size - at : d->len));
    } else if (d->how == CUT) {
        assert_int_equal(truncate(name, at), 0);
    } else if (d->how == DELETE) {
        assert_int_equal(unlink(name), 0);
    } else { /* that no SQLite knows: all can be read, and nothing written */
        CLEANUP_CLOSE int fd = open(name, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "\xfd", 1, 18), 1);
    }
}

/* Leave an outbox with ROWS rows: 0..199 in the database itself, the rest in the -wal if killed. */
static void prepare_files(bool clean)
{
    struct outbox *outbox = open_default();

    add_many(outbox, 0, 200, 4);
    outbox_close(outbox);
    pid_t child = fork();
    if (child == 0) {
        outbox = open_default();
        add_many(outbox, 200, ROWS - 200, 2);
        if (clean)
            outbox_close(outbox);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    assert_int_equal(size_of("-wal") > 0, !clean);
}

static void check_after_damage_at_open(const struct damage *d)
{
    bool seen[ROWS + 1] = {false};
    struct error err = {0};
    struct outbox *outbox = open_default();
    int saved = (int)outbox_pending(outbox);

    if (outbox_reconcile_needed(outbox) == d->heals || saved < d->salvaged || saved > ROWS ||
        asides() > 1)
        fail_msg("%s: %d rows saved, %zu set aside", d->name, saved, asides());
    add(outbox, ROWS);
    outbox_close(outbox);
    outbox = open_default(); /* not forgotten, nor done again */
    assert_int_equal(outbox_reconcile_needed(outbox), !d->heals);
    assert_true(asides() <= 1);
    assert_true(outbox_reconcile_finished(outbox, &err));
    assert_false(outbox_reconcile_needed(outbox));
    assert_int_equal(drain(outbox, seen, ROWS + 1), saved + 1);
    assert_true(seen[ROWS]);
    outbox_close(outbox);
    outbox = open_default();
    assert_false(outbox_reconcile_needed(outbox));
    assert_int_equal(outbox_pending(outbox), 0);
    outbox_close(outbox);
}

static void test_damage_at_open(void **state)
{
    static const struct damage damages[] = {
        {"header", NOISE, "", 0, 100, .salvaged = 0},
        {"write version", WRITE_VERSION, "", .salvaged = ROWS},
        {"first page", NOISE, "", 0, PAGE, .salvaged = 0},
        {"index", NOISE, "", INDEX, PAGE, .salvaged = ROWS},
        {"middle", NOISE, "", MIDDLE, PAGE, .salvaged = ROWS / 2},
        {"all", NOISE, "", 0, END, .salvaged = 0},
        {"truncated", CUT, "", MIDDLE, .salvaged = 10},
        {"empty", CUT, "", 0, .salvaged = 0},
        {"header, killed", NOISE, "", 0, 100, .heals = true, .killed = true, .salvaged = ROWS},
        {"body, killed", NOISE, "", PAGE, END, .killed = true, .salvaged = 1},
        {"all, killed", NOISE, "", 0, END, .killed = true, .salvaged = 1},
        {"truncated, killed", CUT, "", MIDDLE, .killed = true, .salvaged = 1},
        {"deleted, killed", DELETE, "", .killed = true, .salvaged = 0},
        {"wal", NOISE, "-wal", 0, END, .killed = true, .salvaged = 200},
        {"wal deleted", DELETE, "-wal", .killed = true, .salvaged = 200},
    };

    for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
        print_message("  %s\n", damages[i].name);
        prepare_files(!damages[i].killed);
        inflict(&damages[i]);
        check_after_damage_at_open(&damages[i]);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

/* Rows that SQLite can read, and nobody else. */
static void test_garbage_in_rows(void **state)
{
    (void)state;
    prepare_files(true);
    run_sql("UPDATE event SET gcs_path = CAST(X'66696C65FF80' AS TEXT) WHERE seq = 10;"
            "UPDATE event SET content_type = 'image/jp' || char(7) WHERE seq = 20;"
            "UPDATE event SET traceparent = 'x' || char(0) WHERE seq = 30;"
            "UPDATE event SET gcs_path = substr(gcs_path, 1, 40) WHERE seq = 40;"
            "UPDATE event SET event_id = replace(event_id, '-', char(127)) WHERE seq = 50;");
    overwrite(path, page_of_index(), PAGE);
    struct outbox *outbox = open_default();
    assert_int_equal(outbox_pending(outbox), ROWS - 5);
    assert_true(outbox_reconcile_needed(outbox));
    outbox_close(outbox);
}

/* SQLite sees damage when it reads a page, not while it has it in memory. */
static void drop_cache(struct outbox *outbox)
{
    assert_true(wait_until(has_ticked, outbox, 0));
    pthread_mutex_lock(&outbox->lock);
    assert_false(outbox->db_owned);
    sqlite3_db_release_memory(outbox->db.handle);
    pthread_mutex_unlock(&outbox->lock);
}

/* As drain, while the count may sink and rows that are lost may be in memory. */
static void drain_damaged(struct outbox *outbox, bool *seen)
{
    for (int misses = 0; misses < 50;) {
        CLEANUP(outbox_row_done) struct outbox_row row = {0};
        if (take_within(outbox, 100, &row)) {
            seen[atoi(row.id)] = true;
            outbox_delivered(outbox, &row);
        } else if (outbox_pending(outbox) == 0) {
            return;
        } else {
            misses++;
        }
    }
    fail_msg("%d rows are pending and do not come", (int)outbox_pending(outbox));
}

enum { BEFORE = ROWS + 20, ADDED = BEFORE + 150 };

/* Rows from before the damage are delivered or announced again; later ones are in the new file. */
static void check_damage_while_open(const struct damage *d, bool at_rest)
{
    bool seen[ADDED] = {false};
    int saved = 0;

    prepare_files(true);
    struct outbox *outbox = open_in_test_time();
    add_many(outbox, ROWS, BEFORE - ROWS, 2);
    CLEANUP(outbox_row_done) struct outbox_row row = take(outbox);
    seen[atoi(row.id)] = true;
    inflict(d);
    drop_cache(outbox);
    if (at_rest)
        let_it_tick(outbox);
    outbox_delivered(outbox, &row); /* taken before, settled after */
    drain_damaged(outbox, seen);    /* every row is read */
    if (!d->heals && !wait_until(reconcile_is_needed, outbox, 0))
        fail_msg("%s was not noticed", d->name);
    add_many(outbox, BEFORE, ADDED - BEFORE, 2);
    outbox_close(outbox);
    outbox = open_default();
    assert_int_equal(outbox_reconcile_needed(outbox), !d->heals);
    drain(outbox, seen, ADDED);
    outbox_close(outbox);
    for (int i = 0; i < BEFORE; i++)
        saved += seen[i];
    if (saved < d->salvaged)
        fail_msg("%s: %d rows saved", d->name, saved);
    for (int i = BEFORE; i < ADDED; i++)
        if (!seen[i])
            fail_msg("%s: event %d was acknowledged and lost", d->name, i);
}

static void test_damage_while_open(void **state)
{
    static const struct damage damages[] = {
        {"header", NOISE, "", 0, 100, .heals = true,
         .salvaged = BEFORE}, /* the -wal has that page */
        {"body", NOISE, "", PAGE, END, .salvaged = 1},
        {"all", NOISE, "", 0, END, .salvaged = 1},
        {"truncated", CUT, "", MIDDLE, .salvaged = 1},
        {"deleted", DELETE, "", .salvaged = BEFORE},
        {"wal", NOISE, "-wal", 0, END, .salvaged = 1},
        {"wal truncated", CUT, "-wal", 8000, .salvaged = 1},
        {"wal deleted", DELETE, "-wal", .salvaged = BEFORE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
        print_message("  %s\n", damages[i].name);
        check_damage_while_open(&damages[i], i % 2 == 0);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

static void test_reconcile_asked_for_meanwhile_stays(void **state)
{
    struct outbox *outbox = open_in_test_time();
    struct error err = {0};

    (void)state;
    assert_true(outbox_admin_reconcile(path, &err));
    outbox_close(outbox);
    outbox = open_default();
    assert_true(outbox_reconcile_needed(outbox)); /* begins */
    assert_true(outbox_admin_reconcile(path, &err));
    let_it_tick(outbox);
    assert_true(outbox_reconcile_finished(outbox, &err));
    assert_true(outbox_reconcile_needed(outbox)); /* once more */
    assert_true(outbox_reconcile_finished(outbox, &err));
    assert_false(outbox_reconcile_needed(outbox));
    outbox_close(outbox);
}

/* ---- operator commands */

static bool one_is_pending(struct outbox *outbox)
{
    return outbox_pending(outbox) == 1 && outbox_dead(outbox) == 1;
}

static bool none_is_dead(struct outbox *outbox)
{
    return outbox_dead(outbox) == 0;
}

static void test_admin_while_open(void **state)
{
    struct outbox *outbox = open_in_test_time();
    struct error err = {0};
    int64_t count = 0;
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;

    (void)state;
    add_many(outbox, 0, 2, 1);
    CLEANUP(outbox_row_done) struct outbox_row a = take(outbox);
    CLEANUP(outbox_row_done) struct outbox_row b = take(outbox);
    outbox_dead_letter(outbox, &a, "HTTP status 418");
    outbox_dead_letter(outbox, &b, "HTTP status 418");
    add(outbox, 9); /* its commit comes after theirs */
    CLEANUP(outbox_row_done) struct outbox_row c = take(outbox);
    outbox_delivered(outbox, &c);

    FILE *out = open_memstream(&text, &size);
    assert_true(outbox_admin_list(path, out, &err));
    fclose(out);
    assert_non_null(strstr(text, a.event_id));
    assert_non_null(strstr(text, b.gcs_path));
    assert_non_null(strstr(text, "HTTP status 418"));
    assert_non_null(strstr(text, "2 dead"));

    assert_true(outbox_admin_requeue(path, a.event_id, &count, &err));
    assert_int_equal(count, 1);
    assert_true(wait_until(one_is_pending, outbox, 1500));
    CLEANUP(outbox_row_done) struct outbox_row again = take(outbox);
    assert_string_equal(again.event_id, a.event_id);
    assert_int_equal(again.attempts, 0);
    assert_false(outbox_admin_requeue(path, a.event_id, &count, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);

    assert_true(outbox_admin_purge(path, NULL, &count, &err));
    assert_int_equal(count, 1);
    assert_true(wait_until(none_is_dead, outbox, 1500));
    assert_int_equal(outbox_pending(outbox), 1); /* pending rows stay */
    assert_true(outbox_admin_reconcile(path, &err));
    assert_true(wait_until(reconcile_is_needed, outbox, 1500));
    add(outbox, 3);
    assert_int_equal(asides(), 0); /* none of this looks like damage */
    outbox_close(outbox);
}

static void test_admin_without_service(void **state)
{
    struct error err = {0};
    int64_t count = 0;

    (void)state;
    assert_false(outbox_admin_list(path, stdout, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_false(outbox_admin_requeue(path, NULL, &count, &err));
    assert_false(outbox_admin_purge(path, NULL, &count, &err));
    assert_false(outbox_admin_reconcile(path, &err));
    assert_int_equal(access(path, F_OK), -1);
    outbox_close(open_default());
    assert_true(outbox_admin_requeue(path, NULL, &count, &err));
    assert_int_equal(count, 0);
    assert_true(outbox_admin_reconcile(path, &err));
    struct outbox *outbox = open_default();
    assert_true(outbox_reconcile_needed(outbox));
    assert_int_equal(asides(), 0);
    outbox_close(outbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_add_take_deliver),
        TEST(test_a_pending_row_is_reused),
        TEST(test_a_row_that_is_being_delivered_is_not_reused),
        TEST(test_max_pending),
        TEST(test_put_back_refused_and_dead),
        TEST(test_clock_jumps_do_not_stall),
        TEST(test_wake),
        TEST(test_concurrent_adds_share_commits),
        TEST(test_an_add_is_withdrawn_at_its_deadline),
        TEST(test_acknowledged_adds_survive_kill),
        TEST(test_disk_full),
        TEST(test_a_settlement_is_tried_again),
        TEST(test_takers_wake_at_once),
        TEST(test_lock),
        TEST(test_files_that_are_refused),
        TEST(test_records_stay_until_they_are_forgotten),
        TEST(test_an_outbox_of_version_1_gets_records),
        TEST(test_records_are_salvaged),
        TEST(test_damage_at_open),
        TEST(test_garbage_in_rows),
        TEST(test_damage_while_open),
        TEST(test_reconcile_asked_for_meanwhile_stays),
        TEST(test_admin_while_open),
        TEST(test_admin_without_service),
#undef TEST
    };

    __extension__ sqlite3_auto_extension((void (*)(void))hook_connection);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
