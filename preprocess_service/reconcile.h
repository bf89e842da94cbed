/* Reconciliation: when the outbox lost rows (it says so: outbox_reconcile_needed), every stored
 * image without a result is announced again, on a thread of its own. Duplicates are harmless. */
#pragma once

#include "events/outbox/outbox.h"
#include "store/store.h"

struct reconciler;

/* Both are borrowed and must outlive it. */
struct reconciler *reconciler_new(struct store *store, struct outbox *outbox,
                                  struct error *err) NODISCARD;
/* Stops soon, also in the middle of a walk: it is begun again at the next start. */
void reconciler_free(struct reconciler *reconciler);
