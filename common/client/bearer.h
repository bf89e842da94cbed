/* Where the access token comes from that a call carries. Thread-safe. */
#pragma once

#include "base/error.h"

#include <stdint.h>

enum { BEARER_MAX = 4096 };

struct bearer {
    /* ERROR_UNAVAILABLE or ERROR_DEADLINE. */
    bool (*get)(struct bearer *bearer, int64_t deadline_ms, char out[BEARER_MAX],
                struct error *err);
    /* A server answered 401 to this token: the next caller gets another. */
    void (*expired)(struct bearer *bearer, const char *token);
};
