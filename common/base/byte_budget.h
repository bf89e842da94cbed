/* A bound on bytes held at one time by everybody together. Taken, never waited for. Thread-safe. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct byte_budget {
    int64_t max;
    _Atomic int64_t used;
};

static inline bool byte_budget_take(struct byte_budget *b, int64_t n)
{
    int64_t used = atomic_load(&b->used);

    do {
        if (n > b->max - used)
            return false;
    } while (!atomic_compare_exchange_weak(&b->used, &used, used + n));
    return true;
}

static inline void byte_budget_give(struct byte_budget *b, int64_t n)
{
    atomic_fetch_sub(&b->used, n);
}
