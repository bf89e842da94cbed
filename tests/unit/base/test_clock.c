#include "../test_cases.h"
#include "base/clock.h"
#include "base/threads.h"

TEST(written_as_rfc3339)
{
    static const struct {
        int64_t ms;
        const char *text;
    } table[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-1000, "1969-12-31T23:59:59.000Z"},
        {951827696789, "2000-02-29T12:34:56.789Z"},
        {4102444799999, "2099-12-31T23:59:59.999Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {253402300800000, "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {INT64_MIN, "1000-01-01T00:00:00.000Z"},
    };
    char out[CLOCK_RFC3339_LEN];

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        clock_rfc3339(table[i].ms, out);
        assert_string_equal(out, table[i].text);
    }
}

TEST(monotonic_never_goes_back)
{
    int64_t last_ms = clock_monotonic_ms();
    double last_s = clock_monotonic_s();

    for (int i = 0; i < 100000; i++) {
        int64_t ms = clock_monotonic_ms();
        double s = clock_monotonic_s();
        assert_true(ms >= last_ms && s >= last_s);
        assert_true(s * 1000 - (double)ms > -0.001); /* the same clock */
        last_ms = ms;
        last_s = s;
    }
}

TEST(deadlines)
{
    int64_t now = clock_monotonic_ms();

    assert_int_equal(clock_left_ms(now - 1000), 0);
    assert_int_equal(clock_left_ms(0), 0);
    int64_t left = clock_left_ms(now + 60000);
    assert_true(left > 0 && left <= 60000);
    struct timespec ts = clock_timespec(12345);
    assert_int_equal(ts.tv_sec, 12);
    assert_int_equal(ts.tv_nsec, 345000000);
}

TEST(wall_clock)
{
    int64_t before = (int64_t)time(NULL);
    int64_t now = clock_wall_ms() / 1000;
    assert_true(now >= before - 1 && now <= before + 60);
}

TEST(test_ahead)
{
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t never;
    const int64_t began_ms = clock_monotonic_ms(), wall_ms = clock_wall_ms();

    clock_set_ahead(3600000);
    assert_in_range(clock_monotonic_ms() - began_ms, 3600000, 3700000);
    assert_in_range(clock_wall_ms() - wall_ms, 3600000, 3700000);
    clock_pause(3600000);
    assert_in_range(clock_monotonic_ms() - began_ms, 7200000, 7300000);
    pthread_cond_init(&never, NULL);
    pthread_mutex_lock(&mutex);
    assert_true(thread_cond_wait(&never, &mutex, clock_monotonic_ms() + 3600000)); /* a look */
    assert_false(thread_cond_wait(&never, &mutex, clock_monotonic_ms()));
    clock_set_ahead(0);
    int64_t deadline_ms = clock_monotonic_ms() + 20;
    while (thread_cond_wait(&never, &mutex, deadline_ms))
        ;
    clock_pause(20);
    assert_true(clock_monotonic_ms() >= deadline_ms + 19);
    pthread_mutex_unlock(&mutex);
    pthread_cond_destroy(&never);
    assert_in_range(clock_monotonic_ms() - began_ms, 39, 100000);
}

TEST_MAIN(NULL, NULL)
