#include "events/outbox/outbox_rows.h"

#include "base/xmalloc.h"

#include <string.h>

/* ---- writes */

/* Binding neither copies nor allocates: it cannot fail. */
static void bind_text(sqlite3_stmt *s, int at, const char *text)
{
    sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

/* *found: there is a pending row for the same object, whose event_id is now the write's. One that
 * is being delivered tells of the object as it was: it may have been deleted, and stored again. */
static bool find_pending(struct outbox_db *db, struct outbox_write *w, bool *found,
                         struct error *err)
{
    sqlite3_stmt *s = db->sql[SQL_FIND];

    bind_text(s, 1, w->event->id);
    sqlite3_bind_int64(s, 2, w->taken_seq);
    int code = sqlite3_step(s);
    const char *id = code == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;

    *found = id != NULL;
    if (*found)
        snprintf(w->event_id, sizeof(w->event_id), "%s", id);
    else if (code != SQLITE_DONE)
        outbox_db_error(db, "read", err);
    sqlite3_reset(s);
    return *found || code == SQLITE_DONE;
}

/* The clock makes numbers that no earlier record of this file has: one that was forgotten is
 * forgotten once more, when the commit failed and is tried again. */
static bool add_record(struct outbox_db *db, struct outbox_batch *batch, const struct event *event,
                       struct error *err)
{
    sqlite3_stmt *s = db->sql[SQL_RECORD];
    int64_t now = batch->wall_ms * 1000;

    if (event->record == NULL)
        return true;
    db->last_record = now > db->last_record ? now : db->last_record + 1;
    *event->record_seq = db->last_record;
    batch->counts.records = true;
    sqlite3_bind_int64(s, 1, db->last_record);
    bind_text(s, 2, event->record);
    return outbox_db_step(db, SQL_RECORD, err);
}

static bool forget(struct outbox_db *db, const struct outbox_write *w, struct error *err)
{
    for (size_t i = 0; i < w->record_count; i++) {
        sqlite3_bind_int64(db->sql[SQL_FORGET], 1, w->records[i]);
        if (!outbox_db_step(db, SQL_FORGET, err))
            return false;
    }
    return true;
}

static bool apply_add(struct outbox_db *db, struct outbox_batch *batch, struct outbox_write *w,
                      struct error *err)
{
    sqlite3_stmt *s = db->sql[SQL_INSERT];
    bool found;

    if (!find_pending(db, w, &found, err))
        return false;
    if (found)
        return add_record(db, batch, w->event, err);
    if (batch->counts.pending >= batch->max_pending) {
        error_set(&w->err, ERROR_OVERLOADED, "outbox is full: %lld events are waiting for delivery",
                  (long long)batch->counts.pending);
        return true;
    }
    bind_text(s, 1, w->event_id);
    bind_text(s, 2, w->event->id);
    bind_text(s, 3, w->event->gcs_path);
    bind_text(s, 4, w->event->content_type);
    bind_text(s, 5, w->event->traceparent);
    sqlite3_bind_int64(s, 6, batch->wall_ms);
    if (!outbox_db_step(db, SQL_INSERT, err) || !add_record(db, batch, w->event, err))
        return false;
    batch->counts.pending++;
    return true;
}

static bool apply_settlement(struct outbox_db *db, struct outbox_batch *batch,
                             const struct outbox_write *w, struct error *err)
{
    enum outbox_sql sql = w->kind == WRITE_DELIVERED ? SQL_DELETE
                          : w->kind == WRITE_REFUSED ? SQL_REFUSE
                                                     : SQL_DEAD_LETTER;
    sqlite3_stmt *s = db->sql[sql];

    sqlite3_bind_int64(s, 1, w->lease->row.seq);
    bind_text(s, 2, w->lease->row.event_id);
    if (sql != SQL_DELETE) {
        bind_text(s, 3, w->reason);
        sqlite3_bind_int64(s, 4, w->kind == WRITE_DEAD ? batch->wall_ms : w->not_before_ms);
    }
    if (!outbox_db_step(db, sql, err))
        return false;
    int changed = sqlite3_changes(db->handle); /* 0: the row was lost to damage */
    batch->counts.pending -= w->kind == WRITE_REFUSED ? 0 : changed;
    batch->counts.dead += w->kind == WRITE_DEAD ? changed : 0;
    return true;
}

static bool apply(struct outbox_db *db, struct outbox_batch *batch, struct outbox_write *w,
                  struct error *err)
{
    w->err.code = ERROR_NONE;
    if (w->kind == WRITE_ADD)
        return apply_add(db, batch, w, err);
    if (w->kind == WRITE_FORGET)
        return forget(db, w, err);
    if (w->kind != WRITE_RECONCILED)
        return apply_settlement(db, batch, w, err);
    sqlite3_bind_int64(db->sql[SQL_RECONCILED], 1, w->reconcile);
    if (!outbox_db_step(db, SQL_RECONCILED, err))
        return false;
    if (sqlite3_changes(db->handle) > 0)
        batch->counts.reconcile = 0;
    return true;
}

bool outbox_rows_commit(struct outbox_db *db, struct outbox_batch *batch, struct error *err)
{
    struct outbox_write *w;
    bool ok = outbox_db_step(db, SQL_BEGIN, err);

    TAILQ_FOREACH(w, &batch->writes, link)
    {
        ok = ok && apply(db, batch, w, err);
    }
    if (ok && outbox_db_step(db, SQL_COMMIT, err))
        return true;
    if (sqlite3_get_autocommit(db->handle) == 0)
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

/* ---- due rows */

void outbox_row_done(struct outbox_row *row)
{
    free(row->gcs_path);
    free(row->content_type);
    *row = (struct outbox_row){0};
}

void outbox_lease_free(struct outbox_lease *lease)
{
    outbox_row_done(&lease->row);
    free(lease);
}

static void copy_text(char *out, size_t size, sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    snprintf(out, size, "%s", text == NULL ? "" : (const char *)text);
}

static char *duplicate_text(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    return text == NULL ? NULL : xstrdup(text);
}

static struct outbox_lease *lease_of(sqlite3_stmt *s)
{
    struct outbox_lease *lease = xcalloc(1, sizeof(*lease));
    struct outbox_row *row = &lease->row;

    row->seq = sqlite3_column_int64(s, 0);
    copy_text(row->event_id, sizeof(row->event_id), s, 1);
    copy_text(row->id, sizeof(row->id), s, 2);
    row->gcs_path = duplicate_text(s, 3);
    row->content_type = duplicate_text(s, 4);
    copy_text(row->traceparent, sizeof(row->traceparent), s, 5);
    row->attempts = sqlite3_column_int64(s, 6);
    row->created_ms = sqlite3_column_int64(s, 7);
    if (*row->event_id != '\0' && row->gcs_path != NULL && row->content_type != NULL)
        return lease;
    outbox_lease_free(lease);
    return NULL;
}

int64_t outbox_rows_due(struct outbox_db *db, int64_t wall_ms, int64_t limit,
                        struct outbox_lease_list *found)
{
    sqlite3_stmt *s = db->sql[SQL_NEXT];
    struct outbox_lease *lease;
    struct error ignored; /* damage is noted; the rest is tried again */
    int64_t next_ms = INT64_MAX;
    int64_t rows = 0;
    int code;

    sqlite3_bind_int64(s, 1, limit);
    for (; (code = sqlite3_step(s)) == SQLITE_ROW; rows++) {
        int64_t due_ms = sqlite3_column_int64(s, 8);
        if (due_ms > wall_ms && due_ms <= wall_ms + OUTBOX_BACKOFF_MAX_MS)
            next_ms = due_ms < next_ms ? due_ms : next_ms;
        else if ((lease = lease_of(s)) != NULL)
            TAILQ_INSERT_TAIL(found, lease, link);
        else
            break;
    }
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        outbox_db_error(db, "read", &ignored);
    sqlite3_reset(s);
    return rows == limit && next_ms == INT64_MAX ? wall_ms : next_ms;
}
