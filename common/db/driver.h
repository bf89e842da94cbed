/* What differs between SQLite and PostgreSQL, for db.c. */
#pragma once

#include "base/error.h"
#include "db/rows.h"

#include <pthread.h>
#include <sys/queue.h>

enum { DB_STATEMENTS_MAX = 64 };

struct db_statement {
    char *sql;
    void *prepared; /* the driver's */
};

struct db_session {
    struct db *db;
    void *handle; /* the driver's; NULL: not connected */
    struct db_statement statements[DB_STATEMENTS_MAX];
    size_t statement_count;
    int64_t deadline_ms;
    bool lost;      /* the connection is gone: connect again */
    int wal_frames; /* SQLite's writer: in the -wal */
    bool again;     /* the last failure says that the same transaction may succeed at once */
    SLIST_ENTRY(db_session) link;
};

struct db_driver {
    const char *serial, *by_key; /* in migrations */
    const char *begin_write, *begin_read;
    const char *lock_migrations; /* in a transaction; "" where begin_write does */
    bool (*connect)(struct db_session *session, bool writer, struct error *err);
    void (*disconnect)(struct db_session *session);
    /* Several statements without arguments. */
    bool (*script)(struct db_session *session, const char *sql, struct error *err);
    bool (*prepare)(struct db_session *session, const char *sql, void **ret, struct error *err);
    bool (*start)(struct db_rows *rows, const struct db_value *args, size_t count,
                  struct error *err);
    enum db_step (*step)(struct db_rows *rows, struct error *err);
    const char *(*text)(const struct db_rows *rows, int column);
    int64_t (*changed)(const struct db_rows *rows);
    void (*done)(struct db_rows *rows);
    /* Whether there is something to roll back: SQLite has done so by itself when its disk is full.
     */
    bool (*in_transaction)(const struct db_session *session);
};

extern const struct db_driver db_sqlite, db_postgresql;

struct db_job;
TAILQ_HEAD(db_jobs, db_job);
SLIST_HEAD(db_sessions, db_session);

struct db {
    const struct db_driver *driver;
    char *target; /* SQLite: the path; PostgreSQL: the URL */
    bool durable;
    _Atomic bool damaged;
    _Atomic int64_t commits; /* SQLite's */
    _Atomic int replaced;    /* how often a damaged file was */
    size_t sessions_max;
    int64_t connect_ms;

    pthread_mutex_t lock; /* all that follows */
    pthread_cond_t changed;
    struct db_sessions idle; /* PostgreSQL: all; SQLite: readers */
    size_t sessions, taken;  /* made; in use */
    bool replacing;          /* none is taken */
    /* SQLite's one writer: the caller who finds it free commits for all who wait */
    struct db_session *writer;
    bool writing;
    struct db_jobs jobs;
};

/* SQLite: the -wal onto the disk; the -wal into the file; the file, which nobody has open, away. */
bool db_sqlite_sync(struct db *db, struct error *err);
void db_sqlite_tidy(struct db_session *session);
bool db_sqlite_set_aside(struct db *db, struct error *err);
