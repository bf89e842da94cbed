#include "base/threads.h"

#include "base/clock.h"

bool thread_start(pthread_t *ret, void *(*fn)(void *), void *arg, struct error *err)
{
    return thread_start_deep(ret, THREAD_IO_STACK_BYTES, fn, arg, err);
}

bool thread_start_deep(pthread_t *ret, size_t stack_bytes, void *(*fn)(void *), void *arg,
                       struct error *err)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, stack_bytes);
    bool ok = pthread_create(ret, &attr, fn, arg) == 0;
    pthread_attr_destroy(&attr);
    return ok || error_set(err, ERROR_OVERLOADED, "cannot start a thread");
}

bool thread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ms)
{
    const struct timespec until = clock_timespec(deadline_ms);

    pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &until);
    return clock_left_ms(deadline_ms) > 0;
}

bool thread_pause(pthread_cond_t *cond, pthread_mutex_t *mutex, const bool *stopping, int64_t ms)
{
    const int64_t until_ms = clock_monotonic_ms() + ms;

    pthread_mutex_lock(mutex);
    while (!*stopping && thread_cond_wait(cond, mutex, until_ms))
        ;
    bool stop = *stopping;
    pthread_mutex_unlock(mutex);
    return !stop;
}
