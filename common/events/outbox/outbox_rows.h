/* The outbox's rows: many writes in one transaction, and the rows that are due. Knows neither locks
 * nor threads. Everything is of the thread that owns the database. */
#pragma once

#include "events/outbox/outbox_db.h"
#include "events/outbox/row.h"

#include <pthread.h>
#include <sys/queue.h>

enum {
    OUTBOX_BACKOFF_MAX_MS = 60000, /* a row due later than this from now: the clock jumped back */
    OUTBOX_REASON_MAX = 256,
};

enum outbox_write_kind {
    WRITE_ADD,
    WRITE_RECONCILED,
    WRITE_FORGET,
    WRITE_DELIVERED,
    WRITE_REFUSED,
    WRITE_DEAD
};

struct outbox_write {
    TAILQ_ENTRY(outbox_write) link;
    enum outbox_write_kind kind;
    bool started, done; /* withdrawn only before it started */
    /* add, reconciled and forget: on the caller's stack, which waits for `changed` */
    pthread_cond_t changed;
    const struct event *event;
    char event_id[UUID_LEN + 1]; /* in: for a new row; out: of the row */
    int64_t taken_seq; /* of the last row for the same object that is being delivered, or 0 */
    int64_t reconcile;
    const int64_t *records; /* to be forgotten */
    size_t record_count;
    struct error err; /* ERROR_NONE: it succeeded */
    /* delivered, refused and dead: inside the lease, tried until it succeeds */
    struct outbox_lease *lease;
    int64_t not_before_ms;
    char reason[OUTBOX_REASON_MAX];
};

TAILQ_HEAD(outbox_write_list, outbox_write);

/* A pending row that is in memory. */
struct outbox_lease {
    TAILQ_ENTRY(outbox_lease) link;
    struct outbox_row row; /* once taken, its strings are the taker's */
    enum { READY, TAKEN, SETTLING } state;
    struct outbox_write settle;
};

TAILQ_HEAD(outbox_lease_list, outbox_lease);

void outbox_lease_free(struct outbox_lease *lease);

struct outbox_batch {
    struct outbox_write_list writes;
    struct outbox_counts counts; /* in: before; out: after */
    int64_t max_pending;
    int64_t wall_ms;
};

/* Apply all writes in one transaction, or none (false, *err). An add may be refused on its own: its
 * `err` is set. */
bool outbox_rows_commit(struct outbox_db *db, struct outbox_batch *batch,
                        struct error *err) NODISCARD;

/* Append to `found` which of the `limit` next rows are due. Returns when another one is; wall_ms:
 * there may be more now. */
int64_t outbox_rows_due(struct outbox_db *db, int64_t wall_ms, int64_t limit,
                        struct outbox_lease_list *found);
