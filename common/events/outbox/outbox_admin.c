#include "events/outbox/outbox_admin.h"

#include "base/clock.h"
#include "events/outbox/outbox_internal.h"

#include <string.h>

enum { ADMIN_BUSY_MS = 5000 };

/* Without a checkpoint when closed: what a killed service left is the next service's to judge. */
static void close_database(sqlite3 **handle)
{
    struct outbox_db db = {.handle = *handle};

    outbox_db_abandon(&db);
}

static void cleanup_statement(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}

#define CLEANUP_DATABASE CLEANUP(close_database)
#define CLEANUP_STATEMENT CLEANUP(cleanup_statement)

static bool read_version(sqlite3 *handle, int64_t *ret, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;

    if (sqlite3_prepare_v2(handle, "PRAGMA user_version", -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        return outbox_db_error(handle, "open", err);
    *ret = sqlite3_column_int64(s, 0);
    return true;
}

static bool open_database(const char *path, sqlite3 **ret, struct error *err)
{
    CLEANUP_DATABASE sqlite3 *handle = NULL;
    int64_t version = 0;

    if (access(path, F_OK) != 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no outbox at %s", path);
    enum outbox_verdict wal = outbox_wal_check(path, 0, err);
    if (wal == OUTBOX_DAMAGED)
        return error_set(err, ERROR_UNAVAILABLE,
                         "%s-wal is damaged: the service recovers the outbox", path);
    if (wal == OUTBOX_FAILED)
        return false;
    if (!outbox_db_connect(path, 0, ADMIN_BUSY_MS, &handle, err) ||
        !outbox_db_exec(handle, "PRAGMA synchronous = FULL", err) ||
        !read_version(handle, &version, err))
        return false;
    if (version != OUTBOX_SCHEMA_VERSION)
        return error_set(err, ERROR_UNAVAILABLE, "%s is no outbox of this version", path);
    *ret = TAKE_PTR(handle);
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

static bool print_rows(sqlite3 *handle, FILE *out, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;
    int code;

    if (sqlite3_prepare_v2(handle,
                           "SELECT seq, state, attempts, created_ms, event_id, gcs_path, last_error"
                           " FROM event ORDER BY seq",
                           -1, &s, NULL) != SQLITE_OK)
        return outbox_db_error(handle, "list", err);
    fprintf(out, "%6s  %-7s  %8s  %8s  %-36s  gcs_path  last_error\n", "seq", "state", "attempts",
            "age", "event_id");
    while ((code = sqlite3_step(s)) == SQLITE_ROW)
        print_row(s, clock_wall_ms(), out);
    return code == SQLITE_DONE || outbox_db_error(handle, "list", err);
}

static bool print_totals(sqlite3 *handle, FILE *out, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL;

    if (sqlite3_prepare_v2(handle,
                           "SELECT count(*) FILTER (WHERE state = 0),"
                           " count(*) FILTER (WHERE state = 1),"
                           " (SELECT value FROM meta WHERE key = 'reconcile') FROM event",
                           -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        return outbox_db_error(handle, "list", err);
    fprintf(out, "%lld pending, %lld dead%s\n", (long long)sqlite3_column_int64(s, 0),
            (long long)sqlite3_column_int64(s, 1),
            sqlite3_column_int64(s, 2) != 0 ? ", to be reconciled" : "");
    return true;
}

bool outbox_admin_list(const char *path, FILE *out, struct error *err)
{
    CLEANUP_DATABASE sqlite3 *handle = NULL;

    return open_database(path, &handle, err) && outbox_db_exec(handle, "BEGIN", err) &&
           print_rows(handle, out, err) && print_totals(handle, out, err);
}

/* Run `sql`, whose ?1 is the event_id or NULL for all dead letters. */
static bool change_dead(const char *path, const char *sql, const char *event_id, int64_t *count,
                        struct error *err)
{
    CLEANUP_DATABASE sqlite3 *handle = NULL;
    CLEANUP_STATEMENT sqlite3_stmt *s = NULL; /* finalized before the database is closed */

    if (!open_database(path, &handle, err))
        return false;
    if (sqlite3_prepare_v2(handle, sql, -1, &s, NULL) != SQLITE_OK ||
        sqlite3_bind_text(s, 1, event_id, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_int64(s, 2, clock_wall_ms()) == SQLITE_NOMEM || sqlite3_step(s) != SQLITE_DONE)
        return outbox_db_error(handle, "change", err);
    *count = sqlite3_changes64(handle);
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
    CLEANUP_DATABASE sqlite3 *handle = NULL;

    return open_database(path, &handle, err) &&
           outbox_db_exec(handle,
                          "UPDATE meta SET value = abs(random() / 2) + 1 WHERE key = 'reconcile'",
                          err);
}
