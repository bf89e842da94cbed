/* The outbox's state, shared by outbox.c (the callers' side) and outbox_writer.c (who owns the
 * database, and when). */
#pragma once

#include "events/outbox/outbox_rows.h"

enum {
    OUTBOX_TICK_MS = 1000,  /* an operator's changes are noticed within this */
    OUTBOX_SETTLE_MS = 10,  /* nobody waits for a settlement: it shares a later commit */
    OUTBOX_SETTLE_MAX = 64, /* so many do not wait for others: each fetch passes over them */
    OUTBOX_FETCH_ROWS = 64,
    OUTBOX_LEASES_MAX = 1024, /* delivered but undeletable rows (disk full) stop further takes */
    OUTBOX_CHECKPOINT_FRAMES = 1000,
    OUTBOX_TEXT_MAX = 4096, /* of a gcs_path */
};

struct outbox {
    char *path;
    int64_t max_pending;
    int64_t (*wall_ms)(void);
    int lock_fd;
    pthread_t writer;

    struct outbox_db db; /* of the thread that set db_owned */

    pthread_mutex_t lock; /* all that follows */
    bool db_owned;

    struct outbox_write_list queue; /* not yet started */
    int64_t settlements;            /* came since the last commit */
    int64_t commit_at_ms;           /* the writer commits the queue */
    int64_t tick_at_ms;             /* the writer looks after the database */
    int64_t wake_at_ms;             /* the writer wakes by itself; INT64_MIN: it is awake */
    pthread_cond_t writer_called;
    bool stopping;

    struct outbox_lease_list leases;
    int64_t lease_count;
    int64_t ready;       /* of them */
    int64_t takers;      /* threads waiting in outbox_take */
    int64_t fetch_at_ms; /* there may be due rows without a lease */
    bool fetch_asked;    /* by a taker, of the thread that owns the database just now */
    pthread_cond_t ready_changed;
    bool woken;

    struct outbox_counts counts; /* committed */
    int64_t reconcile_reported;
};

/* Open the database, then start the writer's thread. */
bool outbox_writer_start(struct outbox *outbox, struct error *err) NODISCARD;
/* Called locked: */
/* Work with the database as its owner, when it has none. `work` unlocks meanwhile. */
void outbox_own_db(struct outbox *outbox, void (*work)(struct outbox *outbox));
void outbox_commit(struct outbox *outbox); /* all that waits */
void outbox_fetch(struct outbox *outbox);  /* due rows, to be taken */
/* Whether a taker should fetch rows. */
bool outbox_wants_fetch(const struct outbox *outbox);
/* Wake the writer if something is due before it wakes by itself. */
void outbox_call_writer(struct outbox *outbox);
/* Wake one taker if there is a row for it, or to be fetched. */
void outbox_call_taker(struct outbox *outbox);
