/* Scope-bound cleanup: `CLEANUP(fn) struct x x = {0};` calls fn(&x) when the scope ends.
 * Initialise at the declaration; hand ownership over with TAKE_PTR (or by zeroing the struct).
 * Destructors used with CLEANUP accept empty (zeroed) values. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* The value of `ptr`, which becomes NULL: ownership moves to the receiver. */
#define TAKE_PTR(ptr)                                                                              \
    __extension__({                                                                                \
        __auto_type taken_ = (ptr);                                                                \
        (ptr) = NULL;                                                                              \
        taken_;                                                                                    \
    })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_fclose(FILE **f)
{
    if (*f != NULL)
        fclose(*f);
}

#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose)
