#include "events/outbox/outbox.h"

#include "base/clock.h"
#include "base/directory.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "events/outbox/outbox_internal.h"

#include <string.h>

enum { RECONCILED_MS = 10000 };

/* ---- open and close */

static void outbox_free(struct outbox *o)
{
    struct outbox_lease *lease;

    outbox_db_close(&o->db);
    while ((lease = TAILQ_FIRST(&o->leases)) != NULL) {
        TAILQ_REMOVE(&o->leases, lease, link);
        outbox_lease_free(lease);
    }
    if (o->lock_fd >= 0)
        close(o->lock_fd);
    pthread_cond_destroy(&o->ready_changed);
    pthread_cond_destroy(&o->writer_called);
    pthread_mutex_destroy(&o->lock);
    free(o->path);
    free(o);
}

static bool begin(struct outbox *o, int64_t lock_wait_ms, struct error *err)
{
    bool used_before;

    if (strlen(o->path) > OUTBOX_PATH_MAX)
        return error_set(err, ERROR_CONFIG, "the path of the outbox is too long");
    if (!directory_make_parents(o->path, err) ||
        (o->lock_fd = outbox_file_lock(o->path, lock_wait_ms, &used_before, err)) < 0)
        return false;
    /* a lock file without a database: somebody deleted the events that were waiting in it */
    o->db.lost = used_before && outbox_file_size(o->path, "") <= 0;
    return outbox_writer_start(o, err);
}

struct outbox *outbox_open(const struct outbox_options *options, struct error *err)
{
    struct outbox *o = xcalloc(1, sizeof(*o));

    o->path = xstrdup(options->path);
    o->lock_fd = -1;
    o->max_pending = options->max_pending;
    o->wall_ms = options->wall_ms != NULL ? options->wall_ms : clock_wall_ms;
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->writer_called, NULL);
    pthread_cond_init(&o->ready_changed, NULL);
    TAILQ_INIT(&o->queue);
    TAILQ_INIT(&o->leases);
    if (begin(o, options->lock_wait_ms, err))
        return o;
    err->code = ERROR_CONFIG; /* whatever it was, the service cannot start with this path */
    error_wrap(err, "OUTBOX_PATH %s", options->path);
    outbox_free(o);
    return NULL;
}

void outbox_close(struct outbox *o)
{
    if (o == NULL)
        return;
    pthread_mutex_lock(&o->lock);
    o->stopping = true;
    pthread_cond_signal(&o->writer_called);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->writer, NULL);
    outbox_free(o);
}

/* ---- writes that are waited for */

/* Called locked. */
static int64_t taken_seq(const struct outbox *o, const char *object_id)
{
    const struct outbox_lease *lease;
    int64_t seq = 0;

    TAILQ_FOREACH(lease, &o->leases, link)
    {
        if (lease->state == TAKEN && lease->row.seq > seq && strcmp(lease->row.id, object_id) == 0)
            seq = lease->row.seq;
    }
    return seq;
}

/* Called locked. */
static void enqueue(struct outbox *o, struct outbox_write *w, int64_t commit_at_ms)
{
    TAILQ_INSERT_TAIL(&o->queue, w, link);
    if (commit_at_ms < o->commit_at_ms)
        o->commit_at_ms = commit_at_ms;
}

/* Called locked. True: it was tried; false: withdrawn at the deadline. */
static bool wait_for_write(struct outbox *o, struct outbox_write *w, int64_t deadline_ms)
{
    while (!w->done) {
        if (w->started)
            pthread_cond_wait(&w->changed, &o->lock);
        else if (clock_left_ms(deadline_ms) > 0)
            thread_cond_wait(&w->changed, &o->lock, deadline_ms);
        else
            break;
    }
    if (!w->done)
        TAILQ_REMOVE(&o->queue, w, link);
    return w->done;
}

static bool run_write(struct outbox *o, struct outbox_write *w, int64_t deadline_ms,
                      struct error *err)
{
    pthread_cond_init(&w->changed, NULL);
    pthread_mutex_lock(&o->lock);
    w->taken_seq = w->kind == WRITE_ADD ? taken_seq(o, w->event->id) : 0;
    enqueue(o, w, 0);
    /* a tick that is due comes first, so that callers do not keep it away for ever */
    if (!o->db_owned && clock_monotonic_ms() < o->tick_at_ms) {
        outbox_own_db(o, outbox_commit);
        outbox_call_taker(o);
    } else {
        outbox_call_writer(o);
    }
    bool done = wait_for_write(o, w, deadline_ms);
    pthread_mutex_unlock(&o->lock);
    pthread_cond_destroy(&w->changed);
    if (!done)
        return error_set(err, ERROR_DEADLINE, "no time left to store the event");
    if (w->err.code == ERROR_NONE)
        return true;
    *err = w->err;
    return false;
}

bool outbox_add(struct outbox *o, const struct event *event, int64_t deadline_ms,
                char event_id[UUID_LEN + 1], struct error *err)
{
    struct outbox_write w = {.kind = WRITE_ADD, .event = event};

    if (strlen(event->id) > SHA256_HEX_LEN || strlen(event->gcs_path) > OUTBOX_TEXT_MAX ||
        strlen(event->content_type) > OUTBOX_TEXT_MAX ||
        strlen(event->traceparent) >= EVENT_TRACEPARENT_MAX)
        return error_set(err, ERROR_INTERNAL, "an event with a text that is too long");
    if (!string_uuid(w.event_id))
        return error_set(err, ERROR_UNAVAILABLE, "no random numbers for an event id");
    if (!run_write(o, &w, deadline_ms, err))
        return false;
    memcpy(event_id, w.event_id, sizeof(w.event_id));
    return true;
}

/* ---- records */

static bool may_have_records(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    bool records = o->counts.records;
    pthread_mutex_unlock(&o->lock);
    return records;
}

bool outbox_records(struct outbox *o, outbox_record_fn fn, void *ctx, struct error *err)
{
    if (!may_have_records(o)) /* most starts: nothing is opened for it */
        return true;
    CLEANUP(outbox_db_close) struct outbox_db db = {0};
    sqlite3_stmt *s = NULL;
    bool ok = outbox_db_connect(o->path, 0, RECONCILED_MS, &db, err);
    int code = SQLITE_OK;

    if (ok && sqlite3_prepare_v2(db.handle, "SELECT seq, body FROM record ORDER BY seq", -1, &s,
                                 NULL) != SQLITE_OK)
        ok = outbox_db_error(&db, "read", err);
    while (ok && (code = sqlite3_step(s)) == SQLITE_ROW)
        ok = fn(ctx, sqlite3_column_int64(s, 0), (const char *)sqlite3_column_text(s, 1), err);
    if (ok && code != SQLITE_DONE)
        ok = outbox_db_error(&db, "read", err);
    sqlite3_finalize(s);
    return ok;
}

bool outbox_forget(struct outbox *o, const int64_t *seqs, size_t count, struct error *err)
{
    struct outbox_write w = {.kind = WRITE_FORGET, .records = seqs, .record_count = count};

    return run_write(o, &w, clock_monotonic_ms() + RECONCILED_MS, err);
}

/* ---- taking and settling rows */

/* The first that is READY; with a row, the one that is TAKEN for it. */
static struct outbox_lease *find_lease(struct outbox *o, const struct outbox_row *row)
{
    struct outbox_lease *lease;

    TAILQ_FOREACH(lease, &o->leases, link)
    {
        if (row == NULL ? lease->state == READY
                        : lease->state == TAKEN && lease->row.seq == row->seq &&
                              strcmp(lease->row.event_id, row->event_id) == 0)
            break;
    }
    return lease;
}

bool outbox_take(struct outbox *o, int64_t deadline_ms, struct outbox_row *ret)
{
    struct outbox_lease *lease = NULL;

    pthread_mutex_lock(&o->lock);
    o->takers++;
    while (!o->woken && (lease = find_lease(o, NULL)) == NULL) {
        bool wanted = outbox_wants_fetch(o);
        if (wanted && !o->db_owned) {
            outbox_own_db(o, outbox_fetch);
            continue;
        }
        if (clock_left_ms(deadline_ms) == 0)
            break;
        o->fetch_asked |= wanted;
        bool by_itself =
            !wanted && o->lease_count < OUTBOX_LEASES_MAX && o->fetch_at_ms < deadline_ms;
        thread_cond_wait(&o->ready_changed, &o->lock, by_itself ? o->fetch_at_ms : deadline_ms);
    }
    o->takers--;
    if (lease != NULL) {
        o->ready--;
        lease->state = TAKEN;
        *ret = lease->row;
        lease->row.gcs_path = NULL;
        lease->row.content_type = NULL;
        outbox_call_taker(o); /* for the next one */
    }
    pthread_mutex_unlock(&o->lock);
    return lease != NULL;
}

void outbox_put_back(struct outbox *o, const struct outbox_row *row)
{
    pthread_mutex_lock(&o->lock);
    struct outbox_lease *lease = find_lease(o, row);
    if (lease != NULL) {
        TAILQ_REMOVE(&o->leases, lease, link);
        outbox_lease_free(lease);
        o->lease_count--;
        o->fetch_at_ms = 0;
        pthread_cond_signal(&o->ready_changed);
    }
    pthread_mutex_unlock(&o->lock);
}

/* Not waited for, so that it shares a commit with others: until the commit no other taker gets the
 * row, and a settlement that is lost with the process means one more delivery. */
static void settle(struct outbox *o, const struct outbox_row *row, const struct outbox_write *write)
{
    pthread_mutex_lock(&o->lock);
    struct outbox_lease *lease = find_lease(o, row);
    if (lease != NULL) {
        /* the others are rare, and operators look for them */
        bool soon = write->kind != WRITE_DELIVERED || ++o->settlements >= OUTBOX_SETTLE_MAX;
        lease->state = SETTLING;
        lease->settle = *write;
        lease->settle.lease = lease;
        enqueue(o, &lease->settle, soon ? 0 : clock_monotonic_ms() + OUTBOX_SETTLE_MS);
        outbox_call_writer(o);
    }
    pthread_mutex_unlock(&o->lock);
}

void outbox_delivered(struct outbox *o, const struct outbox_row *row)
{
    settle(o, row, &(struct outbox_write){.kind = WRITE_DELIVERED});
}

void outbox_refused(struct outbox *o, const struct outbox_row *row, int64_t retry_after_ms,
                    const char *reason)
{
    struct outbox_write w = {.kind = WRITE_REFUSED};

    if (retry_after_ms > OUTBOX_BACKOFF_MAX_MS)
        retry_after_ms = OUTBOX_BACKOFF_MAX_MS;
    w.not_before_ms = o->wall_ms() + retry_after_ms;
    snprintf(w.reason, sizeof(w.reason), "%s", reason);
    settle(o, row, &w);
}

void outbox_dead_letter(struct outbox *o, const struct outbox_row *row, const char *reason)
{
    struct outbox_write w = {.kind = WRITE_DEAD};

    snprintf(w.reason, sizeof(w.reason), "%s", reason);
    settle(o, row, &w);
}

void outbox_wake(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    o->woken = true;
    pthread_cond_broadcast(&o->ready_changed);
    pthread_mutex_unlock(&o->lock);
}

/* ---- what is known */

/* As if all settlements were committed. */
static struct outbox_counts counts_now(struct outbox *o)
{
    const struct outbox_lease *lease;

    pthread_mutex_lock(&o->lock);
    struct outbox_counts counts = o->counts;
    TAILQ_FOREACH(lease, &o->leases, link)
    {
        counts.pending -= lease->state == SETTLING && lease->settle.kind != WRITE_REFUSED;
        counts.dead += lease->state == SETTLING && lease->settle.kind == WRITE_DEAD;
    }
    pthread_mutex_unlock(&o->lock);
    return counts;
}

int64_t outbox_pending(struct outbox *o)
{
    int64_t pending = counts_now(o).pending;

    return pending > 0 ? pending : 0; /* settled rows may have been lost to damage */
}

int64_t outbox_dead(struct outbox *o)
{
    return counts_now(o).dead;
}

bool outbox_reconcile_needed(struct outbox *o)
{
    pthread_mutex_lock(&o->lock);
    o->reconcile_reported = o->counts.reconcile;
    bool needed = o->reconcile_reported != 0;
    pthread_mutex_unlock(&o->lock);
    return needed;
}

bool outbox_reconcile_finished(struct outbox *o, struct error *err)
{
    struct outbox_write w = {.kind = WRITE_RECONCILED};

    pthread_mutex_lock(&o->lock);
    w.reconcile = o->reconcile_reported;
    pthread_mutex_unlock(&o->lock);
    return run_write(o, &w, clock_monotonic_ms() + RECONCILED_MS, err);
}
