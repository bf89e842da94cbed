/* The outbox: events that are stored but not yet delivered, in one SQLite file (WAL,
 * synchronous=FULL). One thread at a time owns the database: a caller that finds it free commits
 * at once; what comes meanwhile waits and goes into one commit together, so that N waiting requests
 * cost one fsync. Delivery is events/outbox/push.c's; this file only keeps the rows.
 *
 * A row is pending or dead (a dead letter). Delivered rows are deleted.
 *
 * Corruption, when found at open or at any later time: the file is set aside as
 * `<path>.corrupt-<time>`, the readable rows are copied to a new one, and
 * outbox_reconcile_needed() becomes true (and stays so across restarts) until
 * outbox_reconcile_finished(): the owner then announces again every stored object that has no
 * result.
 *
 * The service holds flock() on `<path>.lock`. Operator commands (events/outbox/outbox_admin.h) work
 * on the same file through SQLite's own locking while the service runs.
 *
 * Thread-safe. */
#pragma once

#include "events/outbox/row.h"

struct outbox;

struct outbox_options {
    const char *path; /* directories on the way are created */
    int64_t max_pending;
    int64_t lock_wait_ms;     /* how long to wait for another holder of the lock */
    int64_t (*wall_ms)(void); /* clock; NULL: the real one */
};

/* Open or create. ERROR_CONFIG when the path cannot be used or another process holds the lock. */
struct outbox *outbox_open(const struct outbox_options *options, struct error *err) NODISCARD;
void outbox_close(struct outbox *outbox);

/* Add an event, durable when true is returned. A row with the same event->id that waits is reused:
 * its event_id is returned. ERROR_OVERLOADED at max_pending, ERROR_DEADLINE, ERROR_UNAVAILABLE. */
bool outbox_add(struct outbox *outbox, const struct event *event, int64_t deadline_ms,
                char event_id[UUID_LEN + 1], struct error *err) NODISCARD;

/* What came with events as event->record and is not forgotten: call `fn` for each, until it returns
 * false (then so does this, with fn's *err). */
typedef bool (*outbox_record_fn)(void *ctx, int64_t seq, const char *record, struct error *err);
bool outbox_records(struct outbox *outbox, outbox_record_fn fn, void *ctx,
                    struct error *err) NODISCARD;
/* Delete these; unknown ones are ignored. */
bool outbox_forget(struct outbox *outbox, const int64_t *seqs, size_t count,
                   struct error *err) NODISCARD;

/* Take the next due row for delivery; no other taker gets it until it is settled. Waits for one
 * until the deadline or outbox_wake. False when there was none. */
bool outbox_take(struct outbox *outbox, int64_t deadline_ms, struct outbox_row *ret) NODISCARD;
/* Settle a taken row; any other one stays as it is. Not waited for: the counts change at once, the
 * commit follows with the next batch and is tried until it succeeds; no other taker gets the row
 * before. (Killed in between, the service delivers it once more.) */
void outbox_delivered(struct outbox *outbox, const struct outbox_row *row); /* delete it */
void outbox_put_back(struct outbox *outbox, const struct outbox_row *row);  /* nothing counted */
void outbox_refused(struct outbox *outbox, const struct outbox_row *row, int64_t retry_after_ms,
                    const char *reason); /* attempts + 1, due later */
void outbox_dead_letter(struct outbox *outbox, const struct outbox_row *row,
                        const char *reason); /* kept, not delivered any more */

/* Make every outbox_take return at once, now and from now on. */
void outbox_wake(struct outbox *outbox);

int64_t outbox_pending(struct outbox *outbox);
int64_t outbox_dead(struct outbox *outbox);

/* For the one who reconciles: outbox_reconcile_finished() clears the need that the last call of
 * this reported. One that arose since (damage while reconciling) stays. */
bool outbox_reconcile_needed(struct outbox *outbox);
bool outbox_reconcile_finished(struct outbox *outbox, struct error *err) NODISCARD;
