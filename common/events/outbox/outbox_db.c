#include "events/outbox/outbox_internal.h"

#include <string.h>

enum {
    /* quick_check reads everything: 5 ms for 2 MB, 56 ms for 44 MB (100,000 rows), measured. */
    ALWAYS_CHECKED_BYTES = 4 * 1024 * 1024,
    VERSION_PLAUSIBLE = 1000,
};

const char outbox_schema[] =
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
    "  state INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1))," /* enum outbox_state */
    "  last_error TEXT NOT NULL DEFAULT '',"
    "  died_ms INTEGER NOT NULL DEFAULT 0"
    ") STRICT;"
    "CREATE INDEX event_due ON event(not_before_ms) WHERE state = 0;"
    "CREATE INDEX event_of_id ON event(id) WHERE state = 0;"
    "CREATE INDEX event_dead ON event(died_ms) WHERE state = 1;"
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES ('reconcile', 0);"
    "PRAGMA user_version = 1;";
_Static_assert(OUTBOX_SCHEMA_VERSION == 1, "user_version above");

static const char *const statements[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_FIND] = "SELECT event_id FROM event WHERE state = 0 AND id = ?1 LIMIT 1",
    [SQL_INSERT] = "INSERT INTO event (event_id, id, gcs_path, content_type, traceparent,"
                   " created_ms, not_before_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
    [SQL_DELETE] = "DELETE FROM event WHERE seq = ?1 AND event_id = ?2 AND state = 0",
    [SQL_REFUSE] = "UPDATE event SET attempts = attempts + 1, last_error = ?3, not_before_ms = ?4"
                   " WHERE seq = ?1 AND event_id = ?2 AND state = 0",
    [SQL_BURY] = "UPDATE event SET attempts = attempts + 1, last_error = ?3, died_ms = ?4,"
                 " state = 1 WHERE seq = ?1 AND event_id = ?2 AND state = 0",
    [SQL_RECONCILED] = "UPDATE meta SET value = 0 WHERE key = 'reconcile' AND value = ?1",
    [SQL_DUE] = "SELECT seq, event_id, id, gcs_path, content_type, traceparent, attempts,"
                " created_ms FROM event WHERE state = 0 AND not_before_ms BETWEEN ?1 AND ?2"
                " ORDER BY not_before_ms, seq LIMIT ?3",
    [SQL_NEXT_DUE] = "SELECT min(not_before_ms) FROM event WHERE state = 0 AND not_before_ms > ?1",
    [SQL_COUNTS] = "SELECT (SELECT count(*) FROM event WHERE state = 0),"
                   " (SELECT count(*) FROM event WHERE state = 1),"
                   " (SELECT value FROM meta WHERE key = 'reconcile')",
    [SQL_VERSION] = "PRAGMA data_version",
};

bool outbox_db_error(sqlite3 *handle, const char *doing, struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "outbox: %s: %s", doing,
                     handle == NULL ? "out of memory" : sqlite3_errmsg(handle));
}

bool outbox_db_says_damaged(sqlite3 *handle)
{
    int code = sqlite3_extended_errcode(handle);

    return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB ||
           code == SQLITE_IOERR_SHORT_READ;
}

bool outbox_db_connect(const char *path, int flags, int busy_ms, sqlite3 **ret, struct error *err)
{
    sqlite3 *handle = NULL;

    int code =
        sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | flags, NULL);
    if (code != SQLITE_OK) {
        code == SQLITE_NOMEM ? error_oom(err) : outbox_db_error(handle, "open", err);
        sqlite3_close(handle);
        return false;
    }
    /* what cannot be opened for writing SQLite opens for reading, and its errors then look like
     * damage */
    if (sqlite3_db_readonly(handle, "main") == 1) {
        sqlite3_close(handle);
        return error_set(err, ERROR_UNAVAILABLE, "outbox: %s cannot be opened for writing", path);
    }
    sqlite3_extended_result_codes(handle, 1);
    sqlite3_busy_timeout(handle, busy_ms);
    *ret = handle;
    return true;
}

bool outbox_db_exec(sqlite3 *handle, const char *sql, struct error *err)
{
    return sqlite3_exec(handle, sql, NULL, NULL, NULL) == SQLITE_OK ||
           outbox_db_error(handle, "write", err);
}

static bool read_int(sqlite3 *handle, const char *sql, int64_t *ret)
{
    sqlite3_stmt *statement = NULL;
    bool ok = sqlite3_prepare_v2(handle, sql, -1, &statement, NULL) == SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW;

    if (ok)
        *ret = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return ok;
}

static enum outbox_verdict verdict_of(sqlite3 *handle, const char *doing, struct error *err)
{
    if (outbox_db_says_damaged(handle))
        return OUTBOX_DAMAGED;
    outbox_db_error(handle, doing, err);
    return OUTBOX_FAILED;
}

/* A version number that SQLite does not know, in a header that is otherwise good, makes it take the
 * file for read-only: nothing could be added any more, and nothing else would tell. */
static bool is_read_only_by_damage(sqlite3 *handle, const char *path)
{
    return sqlite3_db_readonly(handle, "main") == 1 && access(path, W_OK) == 0;
}

static enum outbox_verdict quick_check(sqlite3 *handle, const char *path, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    enum outbox_verdict verdict;

    if (sqlite3_prepare_v2(handle, "PRAGMA quick_check(1)", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        const unsigned char *said = sqlite3_column_text(statement, 0);
        if (said == NULL)
            verdict = verdict_of(handle, "check", err); /* no memory */
        else if (strcmp((const char *)said, "ok") != 0 || is_read_only_by_damage(handle, path))
            verdict = OUTBOX_DAMAGED;
        else
            verdict = OUTBOX_OK;
    } else {
        verdict = verdict_of(handle, "check", err);
    }
    sqlite3_finalize(statement);
    return verdict;
}

/* No automatic checkpoint: the writer makes it when the waiting callers have their answers. */
static const char settings[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                               "PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 0;";

static enum outbox_verdict create(sqlite3 *handle, const char *path, struct error *err)
{
    int64_t tables = 0;

    if (!read_int(handle, "SELECT count(*) FROM sqlite_schema", &tables))
        return verdict_of(handle, "read the schema", err);
    if (tables > 0) {
        error_set(err, ERROR_CONFIG, "%s is an SQLite database, but not an outbox", path);
        return OUTBOX_FAILED;
    }
    char *sql = sqlite3_mprintf("PRAGMA page_size = %d; BEGIN IMMEDIATE; %s COMMIT;",
                                OUTBOX_PAGE_SIZE, outbox_schema);
    bool ok = (sql != NULL || error_oom(err)) && outbox_db_exec(handle, sql, err) &&
              outbox_sync_directory(path, err);
    sqlite3_free(sql);
    return ok ? OUTBOX_OK : OUTBOX_FAILED;
}

/* A version from the future is refused; one that makes no sense is damage. */
static enum outbox_verdict check_version(sqlite3 *handle, const char *path, struct error *err)
{
    int64_t version = 0;

    if (!read_int(handle, "PRAGMA user_version", &version))
        return verdict_of(handle, "read", err);
    if (version == 0)
        return create(handle, path, err);
    if (version < 0 || version > VERSION_PLAUSIBLE)
        return OUTBOX_DAMAGED;
    if (version > OUTBOX_SCHEMA_VERSION) {
        error_set(err, ERROR_CONFIG,
                  "%s was written by a newer version of this program (schema %d, known is %d)",
                  path, (int)version, OUTBOX_SCHEMA_VERSION);
        return OUTBOX_FAILED;
    }
    return OUTBOX_OK;
}

static enum outbox_verdict prepare(struct outbox_db *db, struct error *err)
{
    for (size_t i = 0; i < SQL_COUNT; i++) {
        if (sqlite3_prepare_v3(db->handle, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &db->sql[i], NULL) == SQLITE_OK)
            continue;
        /* SQLITE_ERROR: a table is missing */
        return sqlite3_errcode(db->handle) == SQLITE_ERROR ? OUTBOX_DAMAGED
                                                           : verdict_of(db->handle, "prepare", err);
    }
    return OUTBOX_OK;
}

static enum outbox_verdict open_connected(struct outbox_db *db, const char *path, bool check,
                                          struct error *err)
{
    enum outbox_verdict verdict = check_version(db->handle, path, err);

    if (verdict == OUTBOX_OK && check)
        verdict = quick_check(db->handle, path, err);
    if (verdict == OUTBOX_OK && sqlite3_exec(db->handle, settings, NULL, NULL, NULL) != SQLITE_OK)
        verdict = verdict_of(db->handle, "set up", err);
    return verdict == OUTBOX_OK ? prepare(db, err) : verdict;
}

enum outbox_verdict outbox_db_open(const char *path, struct outbox_db *ret, struct error *err)
{
    struct outbox_files files = outbox_files_stat(path);
    struct outbox_db db = {0};

    /* SQLite would delete a -wal without a database, and ignore a broken one. */
    if (files.db.size == 0 && (files.db.ino != 0 || files.wal.ino != 0 || files.shm.ino != 0))
        return OUTBOX_DAMAGED;
    enum outbox_verdict wal = outbox_wal_check(path, outbox_shm_frames(path), err);
    if (wal != OUTBOX_OK)
        return wal;
    if (!outbox_db_connect(path, SQLITE_OPEN_CREATE, OUTBOX_BUSY_MS, &db.handle, err))
        return OUTBOX_FAILED;
    bool check = files.db.size <= ALWAYS_CHECKED_BYTES || files.wal.size > 0;
    enum outbox_verdict verdict = open_connected(&db, path, check, err);
    if (verdict == OUTBOX_OK)
        *ret = db;
    else
        outbox_db_abandon(&db);
    return verdict;
}

enum outbox_verdict outbox_db_check(const char *path, struct error *err)
{
    struct outbox_db db = {0};

    if (!outbox_db_connect(path, 0, OUTBOX_BUSY_MS, &db.handle, err))
        return OUTBOX_FAILED;
    enum outbox_verdict verdict = quick_check(db.handle, path, err);
    outbox_db_abandon(&db);
    return verdict;
}

void outbox_db_abandon(struct outbox_db *db)
{
    if (db->handle != NULL)
        sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    outbox_db_close(db);
}

void outbox_db_close(struct outbox_db *db)
{
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(db->sql[i]);
    sqlite3_close(db->handle);
    *db = (struct outbox_db){0};
}

bool outbox_db_step(struct outbox_db *db, enum outbox_sql sql, struct error *err)
{
    bool ok = sqlite3_step(db->sql[sql]) == SQLITE_DONE;

    if (!ok)
        outbox_db_error(db->handle, "write", err);
    sqlite3_reset(db->sql[sql]);
    return ok;
}

bool outbox_db_counts(struct outbox_db *db, struct outbox_counts *ret, struct error *err)
{
    sqlite3_stmt *statement = db->sql[SQL_COUNTS];
    bool ok = sqlite3_step(statement) == SQLITE_ROW;

    if (ok)
        *ret = (struct outbox_counts){.pending = sqlite3_column_int64(statement, 0),
                                      .dead = sqlite3_column_int64(statement, 1),
                                      .reconcile = sqlite3_column_int64(statement, 2)};
    else
        outbox_db_error(db->handle, "count", err);
    sqlite3_reset(statement);
    return ok;
}

int64_t outbox_db_version(struct outbox_db *db)
{
    sqlite3_stmt *statement = db->sql[SQL_VERSION];
    int64_t version =
        sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;

    sqlite3_reset(statement);
    return version;
}
