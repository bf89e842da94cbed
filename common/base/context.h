/* What a use case knows of its caller, whichever protocol the caller speaks. Borrowed; lives as
 * long as the request. */
#pragma once

#include "base/stages.h"

#include <stdatomic.h>
#include <stdint.h>

enum {
    REQUEST_ID_MAX = 64,
    TRACEPARENT_LEN = 55,
    CALLER_NAME_MAX = 254, /* an e-mail address: RFC 5321, 4.5.3.1.3, without the brackets */
};

/* Who signed in. Zeroed: nobody. */
struct caller {
    char name[CALLER_NAME_MAX + 1]; /* with an '@': an account of OpenID Connect */
    bool admin;
    int64_t generation; /* of an account's tokens, above 0: whether they are still good is to ask */
};

/* A bound on bytes held at one time by everybody together. Taken, never waited for. Thread-safe. */
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

struct context {
    const char *id;          /* the request's, for logs */
    const char *traceparent; /* W3C Trace Context, or "" when none or not valid */
    const char *who;         /* the user who signed in, or "" */
    bool admin;              /* who may do what only owners may */
    int64_t deadline_ms;     /* monotonic: answer by then */
    /* of buffered bodies; charge what else is buffered for the request */
    struct byte_budget *budget;
    const atomic_bool *gone; /* becomes true when nobody waits for the answer; may be NULL */
    struct stages *stages;   /* how long things take is noted there; may be NULL */
};

/* [A-Za-z0-9._-]{1,64} */
bool request_id_is_valid(const char *id);
/* W3C Trace Context level 1: version 00 with nonzero ids, lower case. */
bool traceparent_is_valid(const char *value);
