/* What the outbox's own files share. Nobody else includes this.
 *
 *   outbox.c          the callers' side: requests and leases, under `lock`
 *   outbox_writer.c   turns at the database, one at a time: when what is done, damage noticed
 *   outbox_batch.c    one transaction for many requests
 *   outbox_fetch.c    due rows into memory
 *   outbox_db.c       SQLite: opening, schema, statements
 *   outbox_files.c    the files beneath SQLite: directories, lock, damage seen from outside
 *   outbox_recover.c  setting a damaged file aside and salvaging its rows */
#ifndef DARKROOM_EVENTS_OUTBOX_OUTBOX_INTERNAL_H
#define DARKROOM_EVENTS_OUTBOX_OUTBOX_INTERNAL_H

#include "events/outbox/outbox.h"

#include <pthread.h>
#include <sqlite3.h>
#include <sys/queue.h>
#include <sys/types.h>

enum {
    OUTBOX_SCHEMA_VERSION = 1,
    OUTBOX_PAGE_SIZE = 4096,
    OUTBOX_BACKOFF_MAX_MS = 60000, /* a row due later than this from now: the clock jumped back */
    OUTBOX_TICK_MS = 1000,         /* operator's changes and damage are noticed within this */
    OUTBOX_BUSY_MS = 2000,         /* bounds a batch that meets an operator's transaction */
    OUTBOX_FETCH_ROWS = 64,
    OUTBOX_SETTLE_MS = 10, /* nobody waits for a settlement: it shares a later commit */
    OUTBOX_SETTLE_MAX = 64,
    OUTBOX_LEASES_MAX = 1024, /* delivered but undeletable rows (disk full) stop further takes */
    OUTBOX_REASON_MAX = 256,
    OUTBOX_CHECKPOINT_FRAMES = 1000,
    OUTBOX_TEXT_MAX = 4096, /* of a gcs_path */
};

enum outbox_state { OUTBOX_PENDING = 0, OUTBOX_DEAD = 1 };

/* ---- outbox_files.c */

/* What stat() says of the database, -wal and -shm: a difference that is not our doing is somebody
 * else writing to, replacing or deleting them. */
struct outbox_files {
    struct outbox_file {
        dev_t dev;
        ino_t ino; /* 0: no such file */
        off_t size;
        struct timespec mtime;
    } db, wal, shm;
};

struct outbox_files outbox_files_stat(const char *path);
bool outbox_files_replaced(const struct outbox_files *before, const struct outbox_files *now);
bool outbox_files_written(const struct outbox_files *before, const struct outbox_files *now);

enum outbox_verdict { OUTBOX_OK, OUTBOX_DAMAGED, OUTBOX_FAILED };

/* Whether the -wal file can hold the commits that were acknowledged: SQLite itself silently ignores
 * everything from the first bad checksum on. `min_frames`: how many frames there must be.
 * OUTBOX_FAILED: it cannot be looked at. */
enum outbox_verdict outbox_wal_check(const char *path, uint32_t min_frames, struct error *err);
/* What the last process that had the database open knew of its -wal: the number of frames
 * committed. Only while this process has the database closed (POSIX locks). */
uint32_t outbox_shm_frames(const char *path);

bool outbox_make_parents(const char *path, struct error *err) NODISCARD;
bool outbox_sync_directory(const char *path, struct error *err) NODISCARD;
/* A file descriptor that holds the lock, or -1. *used_before: the lock file was there already. */
int outbox_lock(const char *path, int64_t wait_ms, bool *used_before, struct error *err) NODISCARD;

/* ---- outbox_db.c */

struct outbox_counts {
    int64_t pending;
    int64_t dead;
    int64_t reconcile; /* not 0: needed; another value for each reason to */
};

enum outbox_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_FIND,
    SQL_INSERT,
    SQL_DELETE,
    SQL_REFUSE,
    SQL_BURY,
    SQL_RECONCILED,
    SQL_DUE,
    SQL_NEXT_DUE,
    SQL_COUNTS,
    SQL_VERSION,
    SQL_COUNT,
};

/* An open database with its statements. Used by one thread at a time. */
struct outbox_db {
    sqlite3 *handle;
    sqlite3_stmt *sql[SQL_COUNT];
};

/* SQL that makes the tables; also what a salvaged file gets. */
extern const char outbox_schema[];

/* Open `path`, made if absent. OUTBOX_FAILED: *err says why; OUTBOX_DAMAGED: to be recovered. */
enum outbox_verdict outbox_db_open(const char *path, struct outbox_db *ret, struct error *err);
/* Without a checkpoint, so that damaged files stay as they are. */
void outbox_db_abandon(struct outbox_db *db);
void outbox_db_close(struct outbox_db *db);
/* Read the whole file through a connection of its own. */
enum outbox_verdict outbox_db_check(const char *path, struct error *err);
/* sqlite3_open_v2 for reading and writing, with a busy timeout. ERROR_UNAVAILABLE,
 * ERROR_OVERLOADED. */
bool outbox_db_connect(const char *path, int flags, int busy_ms, sqlite3 **ret,
                       struct error *err) NODISCARD;
bool outbox_db_exec(sqlite3 *handle, const char *sql, struct error *err) NODISCARD;
bool outbox_db_counts(struct outbox_db *db, struct outbox_counts *ret, struct error *err) NODISCARD;
/* A number that changes when another connection commits; -1 on failure. */
int64_t outbox_db_version(struct outbox_db *db);
/* ERROR_UNAVAILABLE with what SQLite says. */
bool outbox_db_error(sqlite3 *handle, const char *doing, struct error *err);
bool outbox_db_says_damaged(sqlite3 *handle);
/* Run a statement that returns no row; it is reset either way. */
bool outbox_db_step(struct outbox_db *db, enum outbox_sql sql, struct error *err) NODISCARD;

/* ---- outbox_recover.c */

/* Put a new database in the place of a damaged one, with the rows that can be read from `live` (a
 * connection to the damaged one; may be NULL) and from the files, and reconciling asked for. On
 * failure it can be tried again. */
bool outbox_recover(const char *path, sqlite3 *live, struct error *err) NODISCARD;

/* ---- outbox.c, outbox_writer.c, outbox_batch.c, outbox_fetch.c */

enum request_kind {
    REQUEST_ADD,
    REQUEST_RECONCILED,
    REQUEST_DELIVERED,
    REQUEST_REFUSED,
    REQUEST_BURY,
};

struct request {
    TAILQ_ENTRY(request) link;
    enum request_kind kind;
    bool started, done; /* withdrawn only before it started */
    /* add and reconciled: on the caller's stack, which waits for `changed` */
    pthread_cond_t changed;
    const struct event *event;
    char event_id[UUID_LEN + 1]; /* in: for a new row; out: of the row */
    int64_t reconcile;
    struct error err; /* ERROR_NONE: it succeeded */
    /* delivered, refused and bury: inside the lease, tried until it succeeds */
    struct lease *lease;
    int64_t not_before_ms;
    char reason[OUTBOX_REASON_MAX];
};

TAILQ_HEAD(request_list, request);

/* A pending row that is in memory: fetched, taken, or being settled. */
struct lease {
    TAILQ_ENTRY(lease) link;
    struct outbox_row row; /* once taken, its strings are the taker's */
    bool settling;
    struct request settle;
};

TAILQ_HEAD(lease_list, lease);

struct outbox {
    char *path;
    int lock_fd;
    int64_t max_pending;
    int64_t (*wall_ms)(void);
    pthread_t writer;

    pthread_mutex_t lock; /* everything down to the next remark */
    bool busy;            /* it is somebody's turn at the database */
    pthread_cond_t work;  /* for the writer */
    int64_t wake_at_ms;   /* when it looks for work by itself; INT64_MIN: it does not sleep */
    pthread_cond_t ready_changed;
    struct request_list queue;       /* waited for; not yet started */
    struct request_list settlements; /* not waited for; not yet started */
    int settlement_count;
    int64_t settle_at_ms;    /* when the writer begins on them at the latest */
    struct lease_list ready; /* fetched, to be taken */
    struct lease_list taken;
    int64_t leases;
    int64_t takers;      /* threads waiting in outbox_take */
    bool fetch_now;      /* there may be due rows beyond `ready` */
    bool fetch_asked;    /* by a taker, of whoever commits just now */
    int64_t fetch_at_ms; /* as fetch_now, from then on */
    bool checkpoint_due;
    bool woken;
    bool stopping;
    struct outbox_counts counts; /* committed */
    int64_t settling_pending;    /* rows about to stop being pending, not yet committed */
    int64_t settling_dead;
    int64_t reconcile_reported;

    /* of whose turn it is */
    struct outbox_db db;
    struct request_list unsettled; /* settlements whose commit failed, tried again */
    struct outbox_files files;     /* as we last left them */
    int64_t version;               /* outbox_db_version */
    uint32_t wal_frames;           /* of our last commit; 0: unknown */
    uint64_t commits;              /* ours */
    uint64_t commits_seen;         /* of them, those read back from the -wal */
    int64_t tick_at_ms;
    bool suspect; /* damaged, and not yet recovered */
};

void *outbox_writer_main(void *outbox);
/* Whether a taker should fetch rows. Called locked. */
bool outbox_wants_fetch(const struct outbox *outbox, int64_t now_ms);
/* Whether the writer's turn comes before a caller's, so that it is not kept away for ever. Called
 * locked. */
bool outbox_writer_first(const struct outbox *outbox);
/* A turn at the database, when it is nobody's. Called locked; `work` runs unlocked. */
void outbox_turn(struct outbox *outbox, void (*work)(struct outbox *outbox));
/* Work for a turn: commit all that waits; put due rows on `ready`. */
void outbox_commit(struct outbox *outbox);
void outbox_fetch(struct outbox *outbox);
/* See to it that the writer does what is due in time. Called locked. */
void outbox_call_writer(struct outbox *outbox);
/* Wake one taker if there is a row for it, or to be fetched. Called locked. */
void outbox_call_taker(struct outbox *outbox);
/* Open the database and read the counts, recovering it if need be. Before the writer runs. */
bool outbox_writer_start(struct outbox *outbox, struct error *err) NODISCARD;
/* To be called when SQLite failed, before the next use of the connection. */
void outbox_note_damage(struct outbox *outbox);
/* Apply all requests in one transaction, or none (false, *err). An add may be refused on its own:
 * its `err` is set. *counts: in: before, out: after. */
bool outbox_batch_commit(struct outbox *outbox, struct request_list *batch,
                         struct outbox_counts *counts, struct error *err) NODISCARD;
void outbox_lease_free(struct lease *lease);

#endif
