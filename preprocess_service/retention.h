/* Retention in the file store: what is older than RETENTION_DAYS is deleted, on a thread of its own
 * that walks the store once an hour. Buckets do this by themselves, with lifecycle rules.
 *
 * Only what the services wrote goes: "<id>.<ext>", its result, and records under "rejected/"; what
 * others put into the directory stays. An object goes before its result, and a result never before
 * its object: a result alone is harmless, but an object alone would be announced again. */
#pragma once

#include "catalogue/catalogue.h"
#include "store/store.h"

struct retention;

/* `store` and `catalogue` (may be NULL) are borrowed and must outlive it. */
struct retention *retention_new(struct store *store, struct catalogue *catalogue, int64_t days,
                                struct error *err) NODISCARD;
/* Stops soon, also in the middle of a walk. */
void retention_free(struct retention *retention);
