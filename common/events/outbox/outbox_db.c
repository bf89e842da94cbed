#include "events/outbox/outbox_db.h"

#include <string.h>

enum {
    BUSY_MS = 2000, /* bounds a batch that meets an operator's transaction */
    /* quick_check reads everything: 5 ms for 2 MB, 56 ms for 44 MB (100,000 rows), measured. */
    ALWAYS_CHECKED_BYTES = 4 * 1024 * 1024,
};

#define RECORDS                                                                                    \
    "CREATE TABLE record (seq INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;"                    \
    "PRAGMA user_version = 2;"

const char outbox_db_schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE event ("
    "  seq INTEGER PRIMARY KEY,"
    "  event_id TEXT NOT NULL UNIQUE CHECK (length(event_id) = 36),"
    "  id TEXT NOT NULL CHECK (length(id) <= 64),"
    "  gcs_path TEXT NOT NULL,"
    "  content_type TEXT NOT NULL,"
    "  traceparent TEXT NOT NULL,"
    "  created_ms INTEGER NOT NULL,"
    "  attempts INTEGER NOT NULL DEFAULT 0,"
    "  not_before_ms INTEGER NOT NULL,"
    "  state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1))," /* 1: a dead letter */
    "  last_error TEXT NOT NULL DEFAULT '',"
    "  died_ms INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX event_due ON event(not_before_ms) WHERE state = 0;"
    "CREATE INDEX event_of_id ON event(id) WHERE state = 0;"
    "CREATE INDEX event_dead ON event(died_ms) WHERE state = 1;"
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES ('reconcile', 0);" RECORDS "COMMIT;";
_Static_assert(OUTBOX_SCHEMA_VERSION == 2, "user_version above");

/* From version 1. */
static const char upgrade[] = "BEGIN IMMEDIATE;" RECORDS "COMMIT;";

/* Also where damage that quick_check does not see took the row. */
const char outbox_db_ask_reconcile[] =
    "INSERT INTO meta VALUES ('reconcile', abs(random() / 2) + 1)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/* No automatic checkpoint: the writer makes it when the waiting callers have their answers. */
static const char settings[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                               "PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 0;";

static const char *const statements[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_FIND] = "SELECT event_id FROM event WHERE state = 0 AND id = ?1 AND seq > ?2 LIMIT 1",
    [SQL_INSERT] = "INSERT INTO event (event_id, id, gcs_path, content_type, traceparent,"
                   " created_ms, not_before_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
    [SQL_RECORD] = "INSERT INTO record VALUES (?1, ?2)",
    [SQL_FORGET] = "DELETE FROM record WHERE seq = ?1",
    [SQL_DELETE] = "DELETE FROM event WHERE seq = ?1 AND event_id = ?2 AND state = 0",
    [SQL_REFUSE] = "UPDATE event SET attempts = attempts + 1, last_error = ?3, not_before_ms = ?4"
                   " WHERE seq = ?1 AND event_id = ?2 AND state = 0",
    [SQL_DEAD_LETTER] = "UPDATE event SET attempts = attempts + 1, last_error = ?3,"
                        " died_ms = ?4, state = 1 WHERE seq = ?1 AND event_id = ?2 AND state = 0",
    [SQL_RECONCILED] = "UPDATE meta SET value = 0 WHERE key = 'reconcile' AND value = ?1",
    [SQL_NEXT] = "SELECT seq, event_id, id, gcs_path, content_type, traceparent, attempts,"
                 " created_ms, not_before_ms FROM event WHERE state = 0"
                 " ORDER BY not_before_ms, seq LIMIT ?1",
    [SQL_COUNTS] = "SELECT (SELECT count(*) FROM event WHERE state = 0),"
                   " (SELECT count(*) FROM event WHERE state = 1),"
                   " (SELECT value FROM meta WHERE key = 'reconcile'),"
                   " EXISTS (SELECT 1 FROM record)",
    [SQL_VERSION] = "PRAGMA data_version",
};

/* ---- errors */

/* The file stays as it is: closing makes no checkpoint. */
static bool found_damage(struct outbox_db *db)
{
    db->damaged = true;
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return false;
}

bool outbox_db_error(struct outbox_db *db, const char *doing, struct error *err)
{
    int code = sqlite3_extended_errcode(db->handle);

    error_set(err, ERROR_UNAVAILABLE, "outbox: %s: %s", doing, sqlite3_errmsg(db->handle));
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB ||
        code == SQLITE_IOERR_SHORT_READ)
        found_damage(db);
    return false;
}

bool outbox_db_exec(struct outbox_db *db, const char *sql, struct error *err)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ||
           outbox_db_error(db, "write", err);
}

bool outbox_db_step(struct outbox_db *db, enum outbox_sql sql, struct error *err)
{
    bool ok = sqlite3_step(db->sql[sql]) == SQLITE_DONE || outbox_db_error(db, "write", err);

    sqlite3_reset(db->sql[sql]);
    return ok;
}

/* ---- open and close */

bool outbox_db_connect(const char *path, int flags, int busy_ms, struct outbox_db *db,
                       struct error *err)
{
    int code = sqlite3_open_v2(path, &db->handle,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | flags, NULL);

    /* what cannot be opened for writing SQLite opens for reading, and its errors then look like
     * damage */
    if (code == SQLITE_OK && sqlite3_db_readonly(db->handle, "main") == 0) {
        sqlite3_extended_result_codes(db->handle, 1);
        sqlite3_busy_timeout(db->handle, busy_ms);
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        return true;
    }
    if (code == SQLITE_NOMEM)
        error_oom(err);
    else
        error_set(err, ERROR_UNAVAILABLE, "outbox: cannot open %s for writing: %s", path,
                  sqlite3_errmsg(db->handle));
    outbox_db_close(db);
    return false;
}

void outbox_db_close(struct outbox_db *db)
{
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(db->sql[i]);
    sqlite3_close(db->handle);
    *db = (struct outbox_db){.damaged = db->damaged, .lost = db->lost};
}

bool outbox_db_read(struct outbox_db *db, const char *sql, const char *text, int64_t *ret,
                    struct error *err)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL) == SQLITE_OK &&
              (text == NULL || sqlite3_bind_text(s, 1, text, -1, SQLITE_STATIC) == SQLITE_OK) &&
              sqlite3_step(s) == SQLITE_ROW;

    if (ok)
        *ret = sqlite3_column_int64(s, 0);
    else
        outbox_db_error(db, "read", err);
    sqlite3_finalize(s);
    return ok;
}

/* Whether `sql` says so; damage if it does not. */
static bool is_true(struct outbox_db *db, const char *sql, const char *text, struct error *err)
{
    int64_t answer = 0;

    return outbox_db_read(db, sql, text, &answer, err) && (answer != 0 || found_damage(db));
}

/* A changed bit in a table's definition is valid SQL at times, which quick_check passes. */
static const char definitions_are_ours[] =
    "SELECT count(*) = 6 AND count(DISTINCT sql) = 6 AND min(instr(?1, sql || ';')) > 0"
    " FROM sqlite_schema WHERE sql IS NOT NULL";

static bool check_version(struct outbox_db *db, const char *path, struct error *err)
{
    int64_t version = 0;
    int64_t tables = 0;

    if (!outbox_db_read(db, "PRAGMA user_version", NULL, &version, err))
        return false;
    if (sqlite3_db_readonly(db->handle, "main") == 1) /* by a format that SQLite does not know */
        return found_damage(db);
    if (version > OUTBOX_SCHEMA_VERSION)
        return error_set(err, ERROR_CONFIG,
                         "%s was written by a newer version of this program (schema %lld, known is "
                         "%d): use that version",
                         path, (long long)version, OUTBOX_SCHEMA_VERSION);
    if (version == 1 && !outbox_db_exec(db, upgrade, err))
        return false;
    if (version >= 1)
        return is_true(db, definitions_are_ours, outbox_db_schema, err);
    if (!outbox_db_read(db, "SELECT count(*) FROM sqlite_schema", NULL, &tables, err))
        return false;
    if (tables > 0)
        return error_set(err, ERROR_CONFIG,
                         "%s is not an outbox but another SQLite database: set another path", path);
    return outbox_db_exec(db, outbox_db_schema, err) && outbox_file_sync_directory(path, err);
}

static bool prepare(struct outbox_db *db, struct error *err)
{
    for (size_t i = 0; i < SQL_COUNT; i++)
        if (sqlite3_prepare_v3(db->handle, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &db->sql[i], NULL) != SQLITE_OK) {
            if (sqlite3_errcode(db->handle) == SQLITE_ERROR) /* a table is missing */
                found_damage(db);
            return outbox_db_error(db, "prepare", err);
        }
    return true;
}

static int on_commit(void *ctx, sqlite3 *handle, const char *name, int frames)
{
    struct outbox_db *db = ctx;

    (void)handle;
    (void)name;
    db->wal_frames = frames;
    return SQLITE_OK;
}

bool outbox_db_open(const char *path, struct outbox_db *db, struct error *err)
{
    /* without an argument, which newer releases (Debian 13's) take for the name of a table */
    static const char whole[] = "SELECT quick_check = 'ok' FROM pragma_quick_check";
    int64_t wal_bytes = outbox_file_size(path, "-wal"); /* a clean end leaves none */
    bool check = wal_bytes > 0 || outbox_file_size(path, "") <= ALWAYS_CHECKED_BYTES;
    int frames = -1;

    db->damaged = false;
    db->lost |= wal_bytes < 0 && outbox_file_size(path, "-shm") >= 0;
    if (!outbox_db_connect(path, SQLITE_OPEN_CREATE, BUSY_MS, db, err))
        return false;
    bool ok = check_version(db, path, err) && (!check || is_true(db, whole, NULL, err)) &&
              outbox_db_exec(db, settings, err) && prepare(db, err);
    /* SQLite ignores a -wal from its first bad checksum on, without a word. One in which it finds
     * nothing at all held commits, or the process was killed when it began that file again: then
     * reconciling finds nothing. */
    if (ok && wal_bytes > 0)
        sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, NULL);
    db->lost |= frames == 0;
    if (!ok || (db->lost && !outbox_db_exec(db, outbox_db_ask_reconcile, err))) {
        outbox_db_close(db);
        return false;
    }
    db->lost = false;
    db->version = -1;
    sqlite3_wal_hook(db->handle, on_commit, db);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return true;
}

/* ---- in use */

static bool step_to_row(struct outbox_db *db, sqlite3_stmt *s, struct error *err)
{
    return sqlite3_step(s) == SQLITE_ROW || outbox_db_error(db, "read", err);
}

bool outbox_db_recount(struct outbox_db *db, struct outbox_counts *ret, struct error *err)
{
    sqlite3_stmt *s = db->sql[SQL_VERSION];
    bool ok = step_to_row(db, s, err);
    int64_t version = ok ? sqlite3_column_int64(s, 0) : 0;

    sqlite3_reset(s);
    if (!ok || version == db->version)
        return ok;
    s = db->sql[SQL_COUNTS];
    ok = step_to_row(db, s, err);
    if (ok) {
        *ret = (struct outbox_counts){.pending = sqlite3_column_int64(s, 0),
                                      .dead = sqlite3_column_int64(s, 1),
                                      .reconcile = sqlite3_column_int64(s, 2),
                                      .records = sqlite3_column_int64(s, 3) != 0};
        db->version = version;
    }
    sqlite3_reset(s);
    return ok;
}

bool outbox_db_is_gone(struct outbox_db *db)
{
    int moved = 0;

    if (sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
        moved == 0 &&
        access(sqlite3_filename_wal(sqlite3_db_filename(db->handle, "main")), F_OK) == 0)
        return false;
    found_damage(db);
    return true;
}

void outbox_db_checkpoint(struct outbox_db *db)
{
    int frames = 0;
    int copied = 0;
    struct error ignored; /* the -wal grows, and the next commit tries again */

    if (sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &copied) !=
        SQLITE_OK)
        outbox_db_error(db, "checkpoint", &ignored);
    else if (copied == frames)
        db->wal_frames = 0;
}
