/* SQLite: WAL, so that readers and the writer do not wait for each other. */
#include "base/clock.h"
#include "base/directory.h"
#include "base/xmalloc.h"
#include "db/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>

enum {
    BUSY_MS = 5000, /* another process commits: `--catalogue rebuild`, in small transactions */
};

static bool fail(struct db_session *s, const char *doing, struct error *err)
{
    int code = sqlite3_errcode(s->handle) & 0xff;

    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        s->db->damaged = true;
    if (code == SQLITE_NOMEM)
        return error_oom(err);
    return error_set(err, ERROR_UNAVAILABLE, "database: %s: %s", doing, sqlite3_errmsg(s->handle));
}

static bool script(struct db_session *s, const char *sql, struct error *err)
{
    return sqlite3_exec(s->handle, sql, NULL, NULL, NULL) == SQLITE_OK || fail(s, "write", err);
}

static void disconnect(struct db_session *s)
{
    for (size_t i = 0; i < s->statement_count; i++)
        sqlite3_finalize(s->statements[i].prepared);
    sqlite3_close(s->handle);
    s->handle = NULL;
}

static int on_commit(void *session, sqlite3 *handle, const char *name, int frames)
{
    (void)handle;
    (void)name;
    ((struct db_session *)session)->wal_frames = frames;
    return SQLITE_OK;
}

static bool connect_file(struct db_session *s, bool writer, struct error *err)
{
    const char *path = s->db->target;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE | (writer ? SQLITE_OPEN_CREATE : 0);
    sqlite3 *handle = NULL;

    if (writer && !directory_make_parents(path, err))
        return false;
    int code = sqlite3_open_v2(path, &handle, flags, NULL);
    s->handle = handle;
    if (code != SQLITE_OK || sqlite3_db_readonly(handle, "main") != 0) {
        error_set(err, ERROR_UNAVAILABLE, "cannot open %s for writing: %s", path,
                  code != SQLITE_OK ? sqlite3_errmsg(handle) : "it is read-only");
        disconnect(s);
        return false;
    }
    sqlite3_busy_timeout(handle, BUSY_MS);
    sqlite3_wal_hook(handle, on_commit, s); /* also: no automatic checkpoints */
    if (!writer) /* what the writer set is the file's; a reader opens on a full disk, too */
        return true;
    if (script(s, "PRAGMA journal_mode = WAL", err) &&
        script(s, s->db->durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
               err))
        return true;
    disconnect(s);
    return false;
}

static bool prepare(struct db_session *s, const char *sql, void **ret, struct error *err)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v3(s->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) !=
        SQLITE_OK)
        return fail(s, "prepare", err);
    *ret = statement;
    return true;
}

static bool start(struct db_rows *rows, const struct db_value *args, size_t count,
                  struct error *err)
{
    sqlite3_stmt *statement = rows->statement;
    int code = SQLITE_OK;

    for (size_t i = 0; i < count && code == SQLITE_OK; i++) {
        int at = (int)i + 1;
        switch (args[i].type) {
        case DB_VALUE_NULL:
            code = sqlite3_bind_null(statement, at);
            break;
        case DB_VALUE_INT:
            code = sqlite3_bind_int64(statement, at, args[i].integer);
            break;
        case DB_VALUE_REAL:
            code = sqlite3_bind_double(statement, at, args[i].real);
            break;
        case DB_VALUE_TEXT:
            code = sqlite3_bind_text(statement, at, args[i].text, -1, SQLITE_STATIC);
            break;
        }
    }
    return code == SQLITE_OK || fail(rows->session, "bind", err);
}

static enum db_step step(struct db_rows *rows, struct error *err)
{
    int code = sqlite3_step(rows->statement);

    if (code == SQLITE_ROW)
        return DB_ROW;
    if (code == SQLITE_DONE)
        return DB_DONE;
    fail(rows->session, "step", err);
    return DB_FAILED;
}

static const char *text(const struct db_rows *rows, int column)
{
    return (const char *)sqlite3_column_text(rows->statement, column);
}

static int64_t changed(const struct db_rows *rows)
{
    return sqlite3_changes64(rows->session->handle);
}

static void done(struct db_rows *rows)
{
    sqlite3_reset(rows->statement);
    sqlite3_clear_bindings(rows->statement);
}

static bool in_transaction(const struct db_session *s)
{
    return sqlite3_get_autocommit(s->handle) == 0;
}

const struct db_driver db_sqlite = {
    .serial = "INTEGER PRIMARY KEY",
    .by_key = "WITHOUT ROWID",
    .begin_write = "BEGIN IMMEDIATE",
    .begin_read = "BEGIN",
    .lock_migrations = "",
    .connect = connect_file,
    .disconnect = disconnect,
    .script = script,
    .prepare = prepare,
    .start = start,
    .step = step,
    .text = text,
    .changed = changed,
    .done = done,
    .in_transaction = in_transaction,
};

/* A checkpoint would not do: one that a reader holds up syncs nothing, and says so nowhere. */
bool db_sqlite_sync(struct db *db, struct error *err)
{
    CLEANUP_FREE char *name = xasprintf("%s-wal", db->target);
    CLEANUP_CLOSE int fd = open(name, O_RDONLY | O_CLOEXEC);

    return (fd >= 0 && fdatasync(fd) == 0) ||
           error_set(err, ERROR_UNAVAILABLE, "cannot sync %s: %s", name, strerror(errno));
}

void db_sqlite_tidy(struct db_session *session)
{
    sqlite3_wal_checkpoint_v2(session->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

bool db_sqlite_set_aside(struct db *db, struct error *err)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char stamp[CLOCK_RFC3339_LEN];

    clock_rfc3339(clock_wall_ms(), stamp);
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        CLEANUP_FREE char *from = xasprintf("%s%s", db->target, suffixes[i]);
        CLEANUP_FREE char *to = xasprintf("%s.corrupt-%s%s", db->target, stamp, suffixes[i]);

        if (rename(from, to) != 0 && errno != ENOENT)
            return error_set(err, ERROR_UNAVAILABLE, "cannot rename %s: %s", from, strerror(errno));
    }
    return true;
}
