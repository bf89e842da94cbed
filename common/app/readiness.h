/* Whether storage works, as far as is known: what /readyz says of it without ever waiting for it.
 * Any storage call updates the state (store_health); when it is older than 5 s, a thread of this
 * module's looks in the background, one look at a time. Thread-safe. */
#pragma once

#include "store/store.h"

struct readiness;

/* The store is borrowed and must outlive it. */
struct readiness *readiness_new(struct store *store, struct error *err) NODISCARD;
void readiness_free(struct readiness *readiness);

/* False after 3 storage failures in a row. Never blocks on storage. */
bool readiness_storage(struct readiness *readiness);
