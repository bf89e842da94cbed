/* The keys of a token issuer, fetched from its JWKS URL when they are first needed and kept by
 * the reply's max-age (60 s to 24 h). Thread-safe.
 *
 * One fetch at a time, made by a request that needs it; others that need it too wait for it, those
 * with a key that is known do not. A token by an unknown key has the keys fetched again, at most
 * every 30 s whoever sends how many. When that fails, known keys stay good for 24 h past their
 * max-age, and the next attempt is 30 s later (1, 2, 4, … s as long as there are no keys at all).
 */
#pragma once

#include "auth/jwks.h"

struct jwks;
struct http_client;

struct jwks_options {
    struct http_client *client; /* borrowed */
    const char *url;            /* copied */
    int64_t (*now_ms)(void); /* how old keys are; NULL for clock_monotonic_ms (tests have others) */
};

struct jwks *jwks_new(const struct jwks_options *options) NODISCARD;
/* No other thread may be using it. */
void jwks_free(struct jwks *jwks);

/* A reference to the key of that id (EVP_PKEY_free); blocks until the deadline, for at most 5 s.
 * NULL: ERROR_UNAUTHORIZED if the issuer has no such key; ERROR_UNAVAILABLE, ERROR_DEADLINE or
 * ERROR_OVERLOADED if it cannot be asked now. */
struct evp_pkey_st *jwks_find(struct jwks *jwks, const char *kid, int64_t deadline_ms,
                              struct error *err) NODISCARD;
