#include "events/outbox/outbox_admin.h"

#include "base/clock.h"
#include "events/outbox/outbox_db.h"

enum { ADMIN_BUSY_MS = 5000 };

static void cleanup_statement(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}

#define CLEANUP_DATABASE CLEANUP(outbox_db_close)
#define CLEANUP_STATEMENT CLEANUP(cleanup_statement) /* declared after the database */

static bool prepare(struct outbox_db *db, const char *sql, sqlite3_stmt **ret, struct error *err)
{
    return sqlite3_prepare_v2(db->handle, sql, -1, ret, NULL) == SQLITE_OK ||
           outbox_db_error(db, "prepare", err);
}

static bool open_database(const char *path, struct outbox_db *db, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;

    if (access(path, F_OK) != 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no outbox at %s", path);
    if (!outbox_db_connect(path, 0, ADMIN_BUSY_MS, db, err) ||
        !outbox_db_exec(db, "PRAGMA synchronous = FULL", err) ||
        !prepare(db, "PRAGMA user_version", &s, err))
        return false;
    if (sqlite3_step(s) != SQLITE_ROW)
        return outbox_db_error(db, "open", err);
    if (sqlite3_column_int64(s, 0) != OUTBOX_SCHEMA_VERSION)
        return error_set(err, ERROR_UNAVAILABLE, "%s is not an outbox of this version", path);
    return true;
}

static const char *text_of(sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    return text == NULL ? "" : (const char *)text;
}

static void print_row(sqlite3_stmt *s, int64_t now_ms, FILE *out)
{
    int64_t age_s = (now_ms - sqlite3_column_int64(s, 3)) / 1000;

    fprintf(out, "%6lld  %-7s  %8lld  %7llds  %s  %s  %s\n", (long long)sqlite3_column_int64(s, 0),
            sqlite3_column_int64(s, 1) == OUTBOX_DEAD ? "dead" : "pending",
            (long long)sqlite3_column_int64(s, 2), (long long)(age_s > 0 ? age_s : 0),
            text_of(s, 4), text_of(s, 5), text_of(s, 6));
}

static bool print_rows(struct outbox_db *db, FILE *out, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;
    int code;

    if (!prepare(db,
                 "SELECT seq, state, attempts, created_ms, event_id, gcs_path, last_error"
                 " FROM event ORDER BY seq",
                 &s, err))
        return false;
    fprintf(out, "%6s  %-7s  %8s  %8s  %-36s  gcs_path  last_error\n", "seq", "state", "attempts",
            "age", "event_id");
    while ((code = sqlite3_step(s)) == SQLITE_ROW)
        print_row(s, clock_wall_ms(), out);
    return code == SQLITE_DONE || outbox_db_error(db, "list", err);
}

static bool print_totals(struct outbox_db *db, FILE *out, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;

    if (!prepare(db,
                 "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),"
                 " (SELECT value FROM meta WHERE key = 'reconcile') FROM event",
                 &s, err))
        return false;
    if (sqlite3_step(s) != SQLITE_ROW)
        return outbox_db_error(db, "list", err);
    fprintf(out, "%lld pending, %lld dead%s\n", (long long)sqlite3_column_int64(s, 0),
            (long long)sqlite3_column_int64(s, 1),
            sqlite3_column_int64(s, 2) != 0 ? ", to be reconciled" : "");
    return true;
}

bool outbox_admin_list(const char *path, FILE *out, struct error *err)
{
    CLEANUP_DATABASE struct outbox_db db = {0};

    return open_database(path, &db, err) && outbox_db_exec(&db, "BEGIN", err) &&
           print_rows(&db, out, err) && print_totals(&db, out, err);
}

/* Run `sql`, whose ?1 is the event_id or NULL for all dead letters. */
static bool change_dead(const char *path, const char *sql, const char *event_id, int64_t *count,
                        struct error *err)
{
    CLEANUP_DATABASE struct outbox_db db = {0};
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;

    if (!open_database(path, &db, err) || !prepare(&db, sql, &s, err))
        return false;
    if (sqlite3_bind_text(s, 1, event_id, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_int64(s, 2, clock_wall_ms()) == SQLITE_NOMEM || sqlite3_step(s) != SQLITE_DONE)
        return outbox_db_error(&db, "change", err);
    *count = sqlite3_changes64(db.handle);
    if (*count == 0 && event_id != NULL)
        return error_set(err, ERROR_NOT_FOUND, "no dead letter has the event id %s", event_id);
    return true;
}

bool outbox_admin_requeue(const char *path, const char *event_id, int64_t *count, struct error *err)
{
    /* created_ms too: by its age alone it would be dead again after one refusal */
    return change_dead(path,
                       "UPDATE event SET state = 0, attempts = 0, not_before_ms = ?2,"
                       " created_ms = ?2 WHERE state = 1 AND (?1 IS NULL OR event_id = ?1)",
                       event_id, count, err);
}

bool outbox_admin_purge(const char *path, const char *event_id, int64_t *count, struct error *err)
{
    return change_dead(path,
                       "DELETE FROM event WHERE state = 1 AND (?1 IS NULL OR event_id = ?1)"
                       " AND ?2 IS NOT NULL",
                       event_id, count, err);
}

bool outbox_admin_reconcile(const char *path, struct error *err)
{
    CLEANUP_DATABASE struct outbox_db db = {0};

    return open_database(path, &db, err) && outbox_db_exec(&db, outbox_db_ask_reconcile, err);
}
