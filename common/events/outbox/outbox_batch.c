#include "events/outbox/outbox_internal.h"

static bool bind_text(sqlite3_stmt *s, int at, const char *text)
{
    return sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC) == SQLITE_OK;
}

/* *found: there is a pending row for the same object, whose event_id is now the request's. */
static bool find_pending(struct outbox *o, struct request *r, bool *found, struct error *err)
{
    sqlite3_stmt *s = o->db.sql[SQL_FIND];
    int code = bind_text(s, 1, r->event->id) ? sqlite3_step(s) : SQLITE_NOMEM;
    const char *id = code == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;

    *found = id != NULL;
    if (*found)
        snprintf(r->event_id, sizeof(r->event_id), "%s", id);
    else if (code != SQLITE_DONE)
        outbox_db_error(o->db.handle, "read", err);
    sqlite3_reset(s);
    return *found || code == SQLITE_DONE;
}

static bool apply_add(struct outbox *o, struct request *r, struct outbox_counts *counts,
                      struct error *err)
{
    sqlite3_stmt *s = o->db.sql[SQL_INSERT];
    bool found;

    if (!find_pending(o, r, &found, err) || found)
        return found;
    if (counts->pending >= o->max_pending) {
        error_set(&r->err, ERROR_OVERLOADED, "outbox is full: %lld events are waiting for delivery",
                  (long long)counts->pending);
        return true;
    }
    if (!bind_text(s, 1, r->event_id) || !bind_text(s, 2, r->event->id) ||
        !bind_text(s, 3, r->event->gcs_path) || !bind_text(s, 4, r->event->content_type) ||
        !bind_text(s, 5, r->event->traceparent) ||
        sqlite3_bind_int64(s, 6, o->wall_ms()) != SQLITE_OK)
        return outbox_db_error(o->db.handle, "add", err);
    if (!outbox_db_step(&o->db, SQL_INSERT, err))
        return false;
    counts->pending++;
    return true;
}

static bool apply_settlement(struct outbox *o, const struct request *r,
                             struct outbox_counts *counts, struct error *err)
{
    enum outbox_sql sql = r->kind == REQUEST_DELIVERED ? SQL_DELETE
                          : r->kind == REQUEST_REFUSED ? SQL_REFUSE
                                                       : SQL_BURY;
    sqlite3_stmt *s = o->db.sql[sql];
    int64_t time_ms = r->kind == REQUEST_BURY ? o->wall_ms() : r->not_before_ms;

    if (sqlite3_bind_int64(s, 1, r->lease->row.seq) != SQLITE_OK ||
        !bind_text(s, 2, r->lease->row.event_id) ||
        (sql != SQL_DELETE &&
         (!bind_text(s, 3, r->reason) || sqlite3_bind_int64(s, 4, time_ms) != SQLITE_OK)))
        return outbox_db_error(o->db.handle, "settle", err);
    if (!outbox_db_step(&o->db, sql, err))
        return false;
    int changed = sqlite3_changes(o->db.handle); /* 0: the row was lost to damage */
    counts->pending -= r->kind == REQUEST_REFUSED ? 0 : changed;
    counts->dead += r->kind == REQUEST_BURY ? changed : 0;
    return true;
}

static bool apply_reconciled(struct outbox *o, const struct request *r,
                             struct outbox_counts *counts, struct error *err)
{
    if (sqlite3_bind_int64(o->db.sql[SQL_RECONCILED], 1, r->reconcile) != SQLITE_OK)
        return outbox_db_error(o->db.handle, "write", err);
    if (!outbox_db_step(&o->db, SQL_RECONCILED, err))
        return false;
    if (sqlite3_changes(o->db.handle) > 0)
        counts->reconcile = 0;
    return true;
}

static bool apply(struct outbox *o, struct request *r, struct outbox_counts *counts,
                  struct error *err)
{
    r->err.code = ERROR_NONE;
    if (r->kind == REQUEST_ADD)
        return apply_add(o, r, counts, err);
    if (r->kind == REQUEST_RECONCILED)
        return apply_reconciled(o, r, counts, err);
    return apply_settlement(o, r, counts, err);
}

/* One transaction: all or nothing. */
bool outbox_batch_commit(struct outbox *o, struct request_list *batch, struct outbox_counts *counts,
                         struct error *err)
{
    struct request *r;
    bool ok = outbox_db_step(&o->db, SQL_BEGIN, err);

    TAILQ_FOREACH(r, batch, link)
    {
        ok = ok && apply(o, r, counts, err);
    }
    if (ok && outbox_db_step(&o->db, SQL_COMMIT, err))
        return true;
    outbox_note_damage(o);
    if (!sqlite3_get_autocommit(o->db.handle)) {
        struct error ignored;
        if (!outbox_db_step(&o->db, SQL_ROLLBACK, &ignored))
            outbox_note_damage(o);
    }
    return false;
}
