/* What pthreads takes too many lines to say. */
#pragma once

#include "base/error.h"

#include <pthread.h>
#include <stdint.h>

/* Stacks of threads that do I/O only. Only touched pages count as memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { THREAD_IO_STACK_BYTES = 2 * 1024 * 1024 };
#else
enum { THREAD_IO_STACK_BYTES = 256 * 1024 };
#endif

/* Start a joinable thread with a stack of THREAD_IO_STACK_BYTES. ERROR_OVERLOADED. */
bool thread_start(pthread_t *ret, void *(*fn)(void *), void *arg, struct error *err) NODISCARD;
/* The same with a stack of so many bytes. */
bool thread_start_deep(pthread_t *ret, size_t stack_bytes, void *(*fn)(void *), void *arg,
                       struct error *err) NODISCARD;

/* Wait for the condition until the deadline at the latest, perhaps not as long. False: it has
 * passed. */
bool thread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ms);

/* Wait so long, or until *stopping, which is set under the mutex and told by the condition. False:
 * it is time to stop. */
bool thread_pause(pthread_cond_t *cond, pthread_mutex_t *mutex, const bool *stopping, int64_t ms);
