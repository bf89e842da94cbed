#include "base/clock.h"
#include "base/directory.h"
#include "events/outbox/outbox_db.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { SALVAGE_BUSY_MS = 2000 };

#define ALL_COLUMNS                                                                                \
    "seq, event_id, id, gcs_path, content_type, traceparent, created_ms, attempts, not_before_ms," \
    " state, last_error, died_ms"
#define TEXTS "event_id || id || gcs_path || content_type || traceparent"

/* Garbage that begins within a row leaves one that can be read: only rows of printable ASCII that
 * make sense. NOT INDEXED: by the table, since an index may be damaged on its own. */
#define SELECT_FORWARD                                                                             \
    "SELECT " ALL_COLUMNS " FROM event NOT INDEXED WHERE id <> '' AND instr(gcs_path, id) > 0"     \
    " AND NOT " TEXTS " GLOB '*[^ -~]*' AND instr(" TEXTS ", char(0)) = 0 ORDER BY seq"

static const char insert_event[] = "INSERT OR IGNORE INTO event (" ALL_COLUMNS ")"
                                   " VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)";

static bool copy_row(sqlite3_stmt *insert, sqlite3_stmt *row)
{
    for (int i = 0; i < sqlite3_column_count(row); i++)
        if (sqlite3_bind_value(insert, i + 1, sqlite3_column_value(row, i)) != SQLITE_OK)
            return false;
    int code = sqlite3_step(insert);
    sqlite3_reset(insert);
    return code == SQLITE_DONE || (code & 0xff) == SQLITE_CONSTRAINT; /* that row is damaged, too */
}

/* Copy the rows up to the first that cannot be read. False: to be tried again, since the new file
 * could not be written or there was no memory to read. *all: every row was read. */
static bool copy_rows(sqlite3 *from, sqlite3 *to, const char *select, const char *insert_sql,
                      bool *all)
{
    sqlite3_stmt *row = NULL;
    sqlite3_stmt *insert = NULL;
    bool ok = sqlite3_prepare_v2(to, insert_sql, -1, &insert, NULL) == SQLITE_OK;
    int code = sqlite3_prepare_v2(from, select, -1, &row, NULL);

    while (ok && row != NULL && (code = sqlite3_step(row)) == SQLITE_ROW)
        ok = copy_row(insert, row);
    *all = code == SQLITE_DONE;
    ok = ok && sqlite3_errcode(from) != SQLITE_NOMEM;
    sqlite3_finalize(row);
    sqlite3_finalize(insert);
    return ok;
}

static bool build(const char *fresh, const char *path, struct outbox_db *db, struct error *err)
{
    CLEANUP(outbox_db_close) struct outbox_db to = {0};
    CLEANUP(outbox_db_close) struct outbox_db file = {0};
    struct outbox_db *from = db->handle != NULL ? db : &file;
    /* SQLite then reads a file that is shorter than its header says */
    static const char read_truncated[] = "PRAGMA writable_schema = ON";
    struct error why = {0}; /* a file that cannot be opened has no readable rows */
    bool all = true;

    if (!outbox_db_connect(fresh, SQLITE_OPEN_CREATE, 0, &to, err) ||
        !outbox_db_exec(&to, "PRAGMA journal_mode = MEMORY", err) ||
        !outbox_db_exec(&to, outbox_db_schema, err) || !outbox_db_exec(&to, "BEGIN", err))
        return false;
    if (from->handle == NULL && !outbox_db_connect(path, 0, SALVAGE_BUSY_MS, &file, &why) &&
        why.code == ERROR_OVERLOADED)
        return error_oom(err);
    if (from->handle != NULL)
        sqlite3_exec(from->handle, read_truncated, NULL, NULL, NULL);
    /* Forward to the first unreadable page, then backward to the last one. What lies between, and
     * what is left out, is found by reconciling. */
    if (from->handle != NULL &&
        (!copy_rows(from->handle, to.handle, SELECT_FORWARD, insert_event, &all) ||
         (!all &&
          !copy_rows(from->handle, to.handle, SELECT_FORWARD " DESC", insert_event, &all)) ||
         !copy_rows(from->handle, to.handle, "SELECT seq, body FROM record",
                    "INSERT OR IGNORE INTO record VALUES (?1, ?2)", &all)))
        return sqlite3_errcode(to.handle) == SQLITE_OK ? error_oom(err)
                                                       : outbox_db_error(&to, "salvage", err);
    return outbox_db_exec(&to, outbox_db_ask_reconcile, err) && outbox_db_exec(&to, "COMMIT", err);
}

/* `<path>.corrupt-20260102T030405Z`, with a number if that exists. */
static void aside_name(const char *path, char out[OUTBOX_NAME_MAX])
{
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm tm;
    char stamp[32];

    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
    snprintf(out, OUTBOX_NAME_MAX, "%s.corrupt-%s", path, stamp);
    for (int i = 2; access(out, F_OK) == 0; i++)
        snprintf(out, OUTBOX_NAME_MAX, "%s.corrupt-%s-%d", path, stamp, i);
}

static bool move(const char *from, const char *to, const char *suffix, struct error *err)
{
    char from_name[OUTBOX_NAME_MAX];
    char to_name[OUTBOX_NAME_MAX];

    snprintf(from_name, sizeof(from_name), "%s%s", from, suffix);
    snprintf(to_name, sizeof(to_name), "%s%s", to, suffix);
    return rename(from_name, to_name) == 0 || errno == ENOENT ||
           error_set(err, ERROR_UNAVAILABLE, "cannot rename %s: %s", from_name, strerror(errno));
}

bool outbox_salvage(const char *path, struct outbox_db *db, struct error *err)
{
    char fresh[OUTBOX_NAME_MAX];
    char aside[OUTBOX_NAME_MAX];

    snprintf(fresh, sizeof(fresh), "%s.new", path);
    unlink(fresh);
    db->lost = true; /* should this fail halfway */
    aside_name(path, aside);
    /* Killed in the middle of the renaming, the next start finds no database beside a lock file,
     * and asks for reconciling. */
    if (!directory_make_parents(path, err) || !build(fresh, path, db, err) ||
        !move(path, aside, "", err) || !move(path, aside, "-wal", err) ||
        !move(path, aside, "-shm", err) || !move(fresh, path, "", err) ||
        !outbox_file_sync_directory(path, err)) {
        unlink(fresh);
        return error_wrap(err, "outbox is damaged and cannot be recovered");
    }
    outbox_db_close(db);
    return true;
}
