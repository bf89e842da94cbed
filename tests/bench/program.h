/* What every program of the bench needs: files, the clock, arguments that are wrong. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* The whole file, on the heap, with a NUL after it; NULL after a line on stderr. */
uint8_t *file_read(const char *path, size_t *len);

/* A line on stderr, and exit(2). */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A number within [min, max], or die(). `name`: what it is. */
long number_arg(const char *name, const char *text, long min, long max);
double seconds_arg(const char *name, const char *text);

/* malloc, or die(). */
void *allocate(size_t size);

static inline double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}
