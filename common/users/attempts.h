/* How often somebody may try to sign in: what is counted are failures, by the pair of name and
 * address, and by address. Never by name alone: a stranger elsewhere could lock its user out.
 *
 *   name and address: 5 at once, then one every 30 s
 *   address: 30 at once, then one every 5 s
 *
 * An address of IPv6 is its /64, which is what one customer gets; "::ffff:192.0.2.1" is IPv4.
 * Bounded: 1 MiB; above it what is nearest to being forgotten is. Of this process: n instances
 * allow n times as much. Thread-safe.
 */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

struct attempts;

struct attempts *attempts_new(void) NODISCARD;
void attempts_free(struct attempts *attempts);

/* Count one as failed. False: not now; *wait_ms is when the next one may be made. */
bool attempts_take(struct attempts *attempts, const char *name, const char *address,
                   int64_t *wait_ms) NODISCARD;
/* It did not fail. */
void attempts_give(struct attempts *attempts, const char *name, const char *address);
