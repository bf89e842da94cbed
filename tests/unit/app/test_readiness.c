#include "../test_cases.h"
#include "app/readiness.h"
#include "base/clock.h"
#include "store/driver.h"

/* A store whose answers are told. */
static struct {
    enum error_code answer;
    atomic_int heads;
    atomic_bool hang;
} fake;

static bool answer(struct error *err)
{
    return fake.answer == ERROR_NONE || error_set(err, fake.answer, "as told");
}

static bool fake_head(void *state, const char *key, int64_t deadline_ms, struct store_info *info,
                      struct error *err)
{
    atomic_fetch_add(&fake.heads, 1);
    while (atomic_load(&fake.hang))
        usleep(1000);
    return answer(err);
}

static bool fake_remove(void *state, const char *key, int64_t deadline_ms, struct error *err)
{
    return answer(err);
}

static const struct store_driver driver = {.head = fake_head, .remove = fake_remove};

struct fixture {
    struct store store;
    struct readiness *readiness;
};

static int begin(void **state)
{
    static char prefix[] = "some/prefix/";
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err;

    if (f == NULL)
        return 1;
    fake.answer = ERROR_NONE;
    atomic_store(&fake.heads, 0);
    atomic_store(&fake.hang, false);
    f->store.driver = &driver;
    f->store.prefix = prefix;
    f->readiness = readiness_new(&f->store, &err);
    *state = f;
    return f->readiness == NULL;
}

static int end(void **state)
{
    struct fixture *f = *state;

    atomic_store(&fake.hang, false);
    readiness_free(f->readiness);
    free(f);
    return 0;
}

/* A request's call, with that outcome. */
static void call(struct fixture *f, enum error_code outcome)
{
    struct error err;

    fake.answer = outcome;
    assert_int_equal(store_delete(&f->store, "some/prefix/x", clock_monotonic_ms() + 1000, &err),
                     outcome == ERROR_NONE);
}

/* What is known becomes too old to be relied on. */
static void pass_time(void)
{
    static int64_t ahead_ms;

    clock_set_ahead(ahead_ms += 6000);
}

static void wait_for_heads(int count)
{
    for (int i = 0; atomic_load(&fake.heads) < count; i++) {
        assert_true(i < 10000);
        usleep(1000);
    }
}

/* After the probe that is on its way, if any, its outcome is known. */
static void wait_until_known(struct fixture *f, int64_t before_ms)
{
    for (int i = 0; atomic_load(&f->store.reads.known_ms) <= before_ms; i++) {
        assert_true(i < 10000);
        (void)readiness_storage(f->readiness); /* as whoever asks about readiness does */
        usleep(1000);
    }
}

TEST_WITH(ready_before_anything_is_known, begin, end)
{
    struct fixture *f = *state;

    assert_true(readiness_storage(f->readiness));
    wait_for_heads(1); /* and somebody looks */
}

TEST_WITH(three_failures_in_a_row, begin, end)
{
    struct fixture *f = *state;

    call(f, ERROR_UNAVAILABLE);
    call(f, ERROR_DEADLINE);
    assert_true(readiness_storage(f->readiness));
    call(f, ERROR_NONE);
    call(f, ERROR_UNAVAILABLE);
    call(f, ERROR_UNAVAILABLE);
    assert_true(readiness_storage(f->readiness));
    call(f, ERROR_UNAVAILABLE);
    assert_false(readiness_storage(f->readiness));
    call(f, ERROR_UNAVAILABLE);
    assert_false(readiness_storage(f->readiness));
    call(f, ERROR_NOT_FOUND); /* an answer, so storage works */
    assert_true(readiness_storage(f->readiness));
    assert_int_equal(atomic_load(&fake.heads), 0); /* fresh: nobody needs to look */
}

TEST_WITH(recovers_by_itself, begin, end)
{
    struct fixture *f = *state;

    for (int i = 0; i < 3; i++)
        call(f, ERROR_UNAVAILABLE);
    assert_false(readiness_storage(f->readiness));
    for (int round = 1; round <= 2; round++) { /* first it is still broken, then mended */
        fake.answer = round == 1 ? ERROR_UNAVAILABLE : ERROR_NOT_FOUND;
        pass_time();
        int64_t before_ms = atomic_load(&f->store.reads.known_ms);
        assert_false(readiness_storage(f->readiness));
        wait_until_known(f, before_ms);
        assert_int_equal(atomic_load(&fake.heads), round);
        assert_int_equal(readiness_storage(f->readiness), round == 2);
    }
}

TEST_WITH(one_probe_at_a_time_that_nobody_waits_for, begin, end)
{
    struct fixture *f = *state;

    atomic_store(&fake.hang, true);
    pass_time();
    int64_t began_ms = clock_monotonic_ms();
    assert_true(readiness_storage(f->readiness));
    wait_for_heads(1);
    for (int i = 0; i < 1000; i++)
        assert_true(readiness_storage(f->readiness));
    assert_int_equal(atomic_load(&fake.heads), 1);
    assert_true(clock_monotonic_ms() - began_ms < 5000);
    int64_t before_ms = atomic_load(&f->store.reads.known_ms);
    atomic_store(&fake.hang, false);
    wait_until_known(f, before_ms);
    assert_true(readiness_storage(f->readiness));
    assert_int_equal(atomic_load(&fake.heads), 1);
}

TEST_WITH(freed_with_and_without_a_probe, begin, end)
{
    struct fixture *f = *state;
    struct error err;

    for (int i = 0; i < 20; i++) {
        struct readiness *r = readiness_new(&f->store, &err);
        assert_non_null(r);
        pass_time();
        if (i % 2 == 0)
            assert_true(readiness_storage(r));
        readiness_free(r);
    }
    readiness_free(NULL);
}

TEST_MAIN(NULL, NULL)
