#include "events/outbox/outbox_admin.h"

#include "events/outbox/outbox_db.h"

enum { ADMIN_BUSY_MS = 5000 };

#define CLEANUP_DATABASE CLEANUP(outbox_db_close)

static bool open_database(const char *path, struct outbox_db *db, struct error *err)
{
    int64_t version = 0;

    if (access(path, F_OK) != 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no outbox at %s", path);
    return outbox_db_connect(path, 0, ADMIN_BUSY_MS, db, err) &&
           outbox_db_exec(db, "PRAGMA synchronous = FULL", err) &&
           outbox_db_read(db, "PRAGMA user_version", NULL, &version, err) &&
           ((version >= 1 && version <= OUTBOX_SCHEMA_VERSION) ||
            error_set(err, ERROR_UNAVAILABLE, "%s is not an outbox of this version", path));
}

static int print_line(void *out, int count, char **columns, char **names)
{
    (void)count;
    (void)names;
    fprintf(out, "%s\n", columns[0]);
    return SQLITE_OK;
}

bool outbox_admin_list(const char *path, FILE *out, struct error *err)
{
    CLEANUP_DATABASE struct outbox_db db = {0};
    static const char list[] =
        "BEGIN;"
        "SELECT printf('%6s  %-7s  %8s  %8s  %-36s  gcs_path  last_error', 'seq', 'state',"
        " 'attempts', 'age', 'event_id');"
        "SELECT printf('%6d  %-7s  %8d  %7ds  %s  %s  %s', seq, iif(state = 1, 'dead', 'pending'),"
        " attempts, max(unixepoch() - created_ms / 1000, 0), event_id, gcs_path, last_error)"
        " FROM event ORDER BY seq;"
        "SELECT printf('%d pending, %d dead%s', count(*) FILTER (WHERE state = 0),"
        " count(*) FILTER (WHERE state = 1), iif((SELECT value FROM meta WHERE key = 'reconcile'),"
        " ', to be reconciled', '')) FROM event";

    return open_database(path, &db, err) &&
           (sqlite3_exec(db.handle, list, print_line, out, NULL) == SQLITE_OK ||
            outbox_db_error(&db, "list", err));
}

/* Change one dead letter, or all of them (NULL). */
static bool change_dead(const char *path, const char *change, const char *event_id, int64_t *count,
                        struct error *err)
{
    CLEANUP_DATABASE struct outbox_db db = {0};
    char *sql = sqlite3_mprintf("%s WHERE state = 1 AND (%Q IS NULL OR event_id = %Q)", change,
                                event_id, event_id);
    bool ok = sql != NULL ? open_database(path, &db, err) && outbox_db_exec(&db, sql, err)
                          : error_oom(err);

    sqlite3_free(sql);
    if (!ok)
        return false;
    *count = sqlite3_changes64(db.handle);
    return *count > 0 || event_id == NULL ||
           error_set(err, ERROR_NOT_FOUND, "no dead letter has the event id %s", event_id);
}

bool outbox_admin_requeue(const char *path, const char *event_id, int64_t *count, struct error *err)
{
    /* created_ms too: by its age alone it would be dead again after one refusal */
    return change_dead(path,
                       "UPDATE event SET state = 0, attempts = 0,"
                       " not_before_ms = unixepoch() * 1000, created_ms = unixepoch() * 1000",
                       event_id, count, err);
}

bool outbox_admin_purge(const char *path, const char *event_id, int64_t *count, struct error *err)
{
    return change_dead(path, "DELETE FROM event", event_id, count, err);
}

bool outbox_admin_reconcile(const char *path, struct error *err)
{
    CLEANUP_DATABASE struct outbox_db db = {0};

    return open_database(path, &db, err) && outbox_db_exec(&db, outbox_db_ask_reconcile, err);
}
