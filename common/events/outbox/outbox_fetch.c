#include "base/clock.h"
#include "events/outbox/outbox_internal.h"

#include <string.h>

static void copy_text(char *out, size_t size, sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    snprintf(out, size, "%s", text == NULL ? "" : (const char *)text);
}

static struct lease *lease_of(sqlite3_stmt *s)
{
    const char *gcs_path = (const char *)sqlite3_column_text(s, 3);
    const char *content_type = (const char *)sqlite3_column_text(s, 4);
    struct lease *lease = calloc(1, sizeof(*lease));

    if (lease == NULL)
        return NULL;
    struct outbox_row *row = &lease->row;
    row->seq = sqlite3_column_int64(s, 0);
    copy_text(row->event_id, sizeof(row->event_id), s, 1);
    copy_text(row->id, sizeof(row->id), s, 2);
    row->gcs_path = gcs_path == NULL ? NULL : strdup(gcs_path);
    row->content_type = content_type == NULL ? NULL : strdup(content_type);
    copy_text(row->traceparent, sizeof(row->traceparent), s, 5);
    row->attempts = sqlite3_column_int64(s, 6);
    row->created_ms = sqlite3_column_int64(s, 7);
    if (*row->event_id != '\0' && row->gcs_path != NULL && row->content_type != NULL)
        return lease;
    outbox_lease_free(lease);
    return NULL;
}

/* Whether there may be more than these. */
static bool fetch_range(struct outbox *o, int64_t from_ms, int64_t to_ms, int64_t limit,
                        struct lease_list *found)
{
    sqlite3_stmt *s = o->db.sql[SQL_DUE];
    struct lease *lease;
    int64_t rows = 0;
    int code = SQLITE_NOMEM;

    if (sqlite3_bind_int64(s, 1, from_ms) == SQLITE_OK &&
        sqlite3_bind_int64(s, 2, to_ms) == SQLITE_OK &&
        sqlite3_bind_int64(s, 3, limit) == SQLITE_OK)
        while ((code = sqlite3_step(s)) == SQLITE_ROW && (lease = lease_of(s)) != NULL) {
            TAILQ_INSERT_TAIL(found, lease, link);
            rows++;
        }
    if (code != SQLITE_DONE && code != SQLITE_ROW)
        outbox_note_damage(o);
    sqlite3_reset(s);
    return rows == limit;
}

static int64_t next_due_ms(struct outbox *o, int64_t wall_ms)
{
    sqlite3_stmt *s = o->db.sql[SQL_NEXT_DUE];
    int64_t ret = INT64_MAX;

    if (sqlite3_bind_int64(s, 1, wall_ms) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW &&
        sqlite3_column_type(s, 0) != SQLITE_NULL)
        ret = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return ret;
}

static bool is_leased(const struct lease_list *list, int64_t seq)
{
    const struct lease *lease;

    TAILQ_FOREACH(lease, list, link)
    {
        if (lease->row.seq == seq)
            return true;
    }
    return false;
}

static void make_ready(struct outbox *o, struct lease_list *found, bool more, int64_t next_ms)
{
    struct lease *lease;

    pthread_mutex_lock(&o->lock);
    o->fetch_now = o->fetch_now || more;
    o->fetch_at_ms = next_ms;
    while ((lease = TAILQ_FIRST(found)) != NULL) {
        TAILQ_REMOVE(found, lease, link);
        if (o->leases >= OUTBOX_LEASES_MAX || is_leased(&o->ready, lease->row.seq) ||
            is_leased(&o->taken, lease->row.seq)) {
            outbox_lease_free(lease);
            continue;
        }
        TAILQ_INSERT_TAIL(&o->ready, lease, link);
        o->leases++;
    }
    pthread_mutex_unlock(&o->lock);
}

void outbox_fetch(struct outbox *o)
{
    struct lease_list found = TAILQ_HEAD_INITIALIZER(found);
    int64_t wall_ms = o->wall_ms();
    int64_t wait_ms = OUTBOX_TICK_MS;
    bool more = false;

    pthread_mutex_lock(&o->lock);
    int64_t limit = o->leases + OUTBOX_FETCH_ROWS;
    o->fetch_now = false;
    pthread_mutex_unlock(&o->lock);
    if (o->db.handle != NULL && !o->suspect) {
        more = fetch_range(o, INT64_MIN, wall_ms, limit, &found);
        more |= fetch_range(o, wall_ms + OUTBOX_BACKOFF_MAX_MS + 1, INT64_MAX, limit, &found);
        int64_t due_ms = next_due_ms(o, wall_ms);
        if (due_ms < wall_ms + wait_ms)
            wait_ms = due_ms - wall_ms;
    }
    make_ready(o, &found, more, clock_monotonic_ms() + wait_ms);
}
