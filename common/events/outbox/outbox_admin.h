/* What `preprocess-service --outbox …` does: an operator's look at, and changes to, an outbox that
 * may be in use by a running service (SQLite's locking sorts that out; the service notices within a
 * second). The file is never created: ERROR_NOT_FOUND. ERROR_UNAVAILABLE when it cannot be read or
 * stays locked for 5 s. */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <stdio.h>

/* A table of all rows, oldest first, and a line with the totals. */
bool outbox_admin_list(const char *path, FILE *out, struct error *err) NODISCARD;

/* Make a dead letter (event_id), or all of them (NULL), pending again with no refusals counted.
 * *count: how many. ERROR_NOT_FOUND for an event_id without a dead letter. */
bool outbox_admin_requeue(const char *path, const char *event_id, int64_t *count,
                          struct error *err) NODISCARD;
/* Delete a dead letter, or all of them. Pending rows stay. */
bool outbox_admin_purge(const char *path, const char *event_id, int64_t *count,
                        struct error *err) NODISCARD;

/* Ask the service, running or next to start, to announce every stored object without a result. */
bool outbox_admin_reconcile(const char *path, struct error *err) NODISCARD;
