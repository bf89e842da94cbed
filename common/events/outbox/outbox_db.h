/* The outbox's SQLite: opening and checking the file, schema, statements. Only SQLite reads and
 * writes the file and its -wal and -shm. A struct outbox_db is used by one thread at a time. */
#pragma once

#include "base/error.h"

#include <sqlite3.h>
#include <stdint.h>

enum { OUTBOX_SCHEMA_VERSION = 2 };

enum outbox_sql {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_FIND,
    SQL_INSERT,
    SQL_RECORD,
    SQL_FORGET,
    SQL_DELETE,
    SQL_REFUSE,
    SQL_DEAD_LETTER,
    SQL_RECONCILED,
    SQL_NEXT,
    SQL_COUNTS,
    SQL_VERSION,
    SQL_COUNT,
};

struct outbox_db {
    sqlite3 *handle; /* NULL: not open */
    sqlite3_stmt *sql[SQL_COUNT];
    int64_t last_record; /* its seq */
    int64_t version;     /* as of the last outbox_db_recount */
    int wal_frames;      /* since the last whole checkpoint */
    bool damaged; /* SQLite found the file corrupt, or its file is gone: see outbox_salvage */
    bool lost;    /* commits are missing: the next open asks for reconciling */
};

struct outbox_counts {
    int64_t pending;
    int64_t dead;
    bool records;      /* there were some at the last outbox_db_recount */
    int64_t reconcile; /* not 0: needed; another value for each reason to */
};

/* SQL that makes the tables, and SQL that asks for reconciling. */
extern const char outbox_db_schema[];
extern const char outbox_db_ask_reconcile[];

/* Open the service's database, made if absent, and check it. False with db->damaged: salvage it. */
bool outbox_db_open(const char *path, struct outbox_db *db, struct error *err) NODISCARD;
/* Only open a file. Closing then makes no checkpoint. ERROR_UNAVAILABLE, ERROR_OVERLOADED. */
bool outbox_db_connect(const char *path, int flags, int busy_ms, struct outbox_db *db,
                       struct error *err) NODISCARD;
void outbox_db_close(struct outbox_db *db);

bool outbox_db_exec(struct outbox_db *db, const char *sql, struct error *err) NODISCARD;
/* The number in the first row of a query; `text` is its ?1, or NULL. */
bool outbox_db_read(struct outbox_db *db, const char *sql, const char *text, int64_t *ret,
                    struct error *err) NODISCARD;
/* Run a statement that returns no row; it is reset either way. */
bool outbox_db_step(struct outbox_db *db, enum outbox_sql sql, struct error *err) NODISCARD;
/* Read the counts if another connection committed since the last time. */
bool outbox_db_recount(struct outbox_db *db, struct outbox_counts *counts,
                       struct error *err) NODISCARD;
/* Whether a file was deleted or replaced. It is then damaged: commits would be lost. */
bool outbox_db_is_gone(struct outbox_db *db);
/* Copy the -wal into the file, without waiting for readers. */
void outbox_db_checkpoint(struct outbox_db *db);
/* After SQLite failed: sets db->damaged if that was the reason. Returns false. ERROR_UNAVAILABLE.
 */
bool outbox_db_error(struct outbox_db *db, const char *doing, struct error *err);

/* Set a damaged file aside as <path>.corrupt-<time>. Put a new one in its place, with the rows that
 * can be read from `db` (or the file, if that is not open) and with reconciling asked for. Closes
 * `db`. On failure nothing has changed: try again. */
bool outbox_salvage(const char *path, struct outbox_db *db, struct error *err) NODISCARD;

/* The outbox's directory and lock file (outbox_file.c). */
enum { OUTBOX_PATH_MAX = 4000, OUTBOX_NAME_MAX = 4096 }; /* a name is a path with a suffix */

/* Bytes of the file `path` + `suffix`; -1: there is none. */
int64_t outbox_file_size(const char *path, const char *suffix);
bool outbox_file_sync_directory(const char *path, struct error *err) NODISCARD;
/* Hold flock() on <path>.lock. Returns its descriptor, or -1. *used_before: the file was there. */
int outbox_file_lock(const char *path, int64_t wait_ms, bool *used_before,
                     struct error *err) NODISCARD;
