#include "base/clock.h"
#include "base/threads.h"
#include "events/outbox/outbox_internal.h"

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- with the database, unlocked */

/* The counts change by other connections, too: an operator's. */
static bool recount(struct outbox *o, struct error *err)
{
    struct outbox_counts counts = o->counts;

    if (!outbox_db_recount(&o->db, &counts, err))
        return false;
    pthread_mutex_lock(&o->lock);
    o->counts = counts;
    o->fetch_at_ms = 0;
    pthread_mutex_unlock(&o->lock);
    return true;
}

/* A database that can be written to, salvaged if it was damaged. */
static bool make_usable(struct outbox *o, struct error *err)
{
    struct outbox_db *db = &o->db;

    for (int attempt = 0; attempt < 3; attempt++) {
        if (db->handle == NULL && !outbox_db_open(o->path, db, err) && !db->damaged)
            return false;
        bool ok = !db->damaged && recount(o, err);
        if (!db->damaged)
            return ok;
        if (!outbox_salvage(o->path, db, err))
            return false;
    }
    return error_set(err, ERROR_UNAVAILABLE, "outbox: damaged again at once");
}

static bool commit_batch(struct outbox *o, struct outbox_batch *batch, struct error *err)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (!make_usable(o, err))
            return false;
        batch->counts = o->counts; /* only the owner changes them */
        if (outbox_rows_commit(&o->db, batch, err) && !outbox_db_is_gone(&o->db))
            return true;
        if (!o->db.damaged)
            return false;
    }
    return error_set(err, ERROR_UNAVAILABLE, "outbox: damaged again at once");
}

/* ---- the owner's work: called locked */

/* Callers that were answered and come again queue while the database is still owned, and share the
 * next commit: 6 adds instead of 5 at 8 threads, measured. */
static void let_callers_in(struct outbox *o)
{
    pthread_mutex_unlock(&o->lock);
    pthread_mutex_lock(&o->lock);
}

/* Answer the callers. Settlements that failed are tried again, before what came later. */
static void finish_batch(struct outbox *o, struct outbox_batch *batch, const struct error *failure)
{
    struct outbox_write_list again = TAILQ_HEAD_INITIALIZER(again);
    struct outbox_write *w;

    while ((w = TAILQ_FIRST(&batch->writes)) != NULL) {
        TAILQ_REMOVE(&batch->writes, w, link);
        if (w->lease == NULL) {
            if (failure != NULL)
                w->err = *failure;
            w->done = true;
            pthread_cond_signal(&w->changed);
        } else if (failure != NULL) {
            w->started = false;
            TAILQ_INSERT_TAIL(&again, w, link);
            o->commit_at_ms = earlier(o->commit_at_ms, clock_monotonic_ms() + OUTBOX_TICK_MS);
        } else {
            TAILQ_REMOVE(&o->leases, w->lease, link);
            outbox_lease_free(w->lease);
            o->lease_count--;
        }
    }
    TAILQ_CONCAT(&again, &o->queue, link);
    TAILQ_CONCAT(&o->queue, &again, link);
}

void outbox_commit(struct outbox *o)
{
    struct outbox_batch batch = {.max_pending = o->max_pending, .wall_ms = o->wall_ms()};
    struct outbox_write *w;
    struct error err = {0};

    TAILQ_INIT(&batch.writes);
    TAILQ_CONCAT(&batch.writes, &o->queue, link);
    TAILQ_FOREACH(w, &batch.writes, link)
    {
        w->started = true;
    }
    o->settlements = 0;
    o->commit_at_ms = INT64_MAX;
    if (!TAILQ_EMPTY(&batch.writes)) {
        pthread_mutex_unlock(&o->lock);
        bool ok = commit_batch(o, &batch, &err);
        pthread_mutex_lock(&o->lock);
        if (ok) {
            o->counts = batch.counts;
            o->fetch_at_ms = 0;
        }
        if (o->db.wal_frames >= OUTBOX_CHECKPOINT_FRAMES)
            o->tick_at_ms = 0;
        finish_batch(o, &batch, ok ? NULL : &err);
        let_callers_in(o);
    }
    bool fetch = o->fetch_asked && outbox_wants_fetch(o);
    o->fetch_asked = false;
    if (fetch)
        outbox_fetch(o);
}

static bool is_leased(const struct outbox *o, int64_t seq)
{
    const struct outbox_lease *lease;

    TAILQ_FOREACH(lease, &o->leases, link)
    {
        if (lease->row.seq == seq)
            return true;
    }
    return false;
}

static void make_ready(struct outbox *o, struct outbox_lease_list *found)
{
    struct outbox_lease *lease;

    while ((lease = TAILQ_FIRST(found)) != NULL) {
        TAILQ_REMOVE(found, lease, link);
        if (o->lease_count >= OUTBOX_LEASES_MAX || is_leased(o, lease->row.seq)) {
            outbox_lease_free(lease);
            continue;
        }
        TAILQ_INSERT_TAIL(&o->leases, lease, link);
        o->lease_count++;
        o->ready++;
    }
}

void outbox_fetch(struct outbox *o)
{
    struct outbox_lease_list found = TAILQ_HEAD_INITIALIZER(found);
    int64_t limit = o->lease_count + OUTBOX_FETCH_ROWS;
    int64_t wall_ms = o->wall_ms();
    int64_t due_ms = INT64_MAX;

    o->fetch_at_ms = INT64_MAX;
    pthread_mutex_unlock(&o->lock);
    if (o->db.handle != NULL && !o->db.damaged)
        due_ms = outbox_rows_due(&o->db, wall_ms, limit, &found);
    int64_t wait_ms = due_ms < wall_ms + OUTBOX_TICK_MS ? due_ms - wall_ms : OUTBOX_TICK_MS;
    pthread_mutex_lock(&o->lock);
    if (o->db.damaged)
        o->tick_at_ms = 0;
    o->fetch_at_ms = earlier(o->fetch_at_ms, clock_monotonic_ms() + wait_ms);
    make_ready(o, &found);
}

static void tick(struct outbox *o)
{
    struct error ignored; /* the next write fails with it, too */

    o->tick_at_ms = clock_monotonic_ms() + OUTBOX_TICK_MS;
    pthread_mutex_unlock(&o->lock);
    bool ok = make_usable(o, &ignored);
    if (ok && outbox_db_is_gone(&o->db))
        ok = make_usable(o, &ignored);
    if (ok && o->db.wal_frames >= OUTBOX_CHECKPOINT_FRAMES)
        outbox_db_checkpoint(&o->db);
    pthread_mutex_lock(&o->lock);
}

/* ---- who owns the database: called locked */

bool outbox_wants_fetch(const struct outbox *o)
{
    return o->takers > 0 && o->ready == 0 && o->lease_count < OUTBOX_LEASES_MAX && !o->woken &&
           clock_monotonic_ms() >= o->fetch_at_ms;
}

static int64_t writer_due_ms(const struct outbox *o)
{
    return o->stopping ? 0 : earlier(o->tick_at_ms, o->commit_at_ms);
}

void outbox_call_writer(struct outbox *o)
{
    if (!o->db_owned && writer_due_ms(o) < o->wake_at_ms)
        pthread_cond_signal(&o->writer_called);
}

void outbox_call_taker(struct outbox *o)
{
    if (o->ready > 0 || outbox_wants_fetch(o))
        pthread_cond_signal(&o->ready_changed);
}

void outbox_own_db(struct outbox *o, void (*work)(struct outbox *outbox))
{
    o->db_owned = true;
    work(o);
    let_callers_in(o);
    o->db_owned = false;
    outbox_call_writer(o);
}

/* ---- the thread: what no caller does, because nobody waits for it or another owns the database */

static void *writer_main(void *arg)
{
    struct outbox *o = arg;
    bool last = false;

    pthread_mutex_lock(&o->lock);
    while (!last) {
        while (o->db_owned || writer_due_ms(o) > clock_monotonic_ms()) {
            o->wake_at_ms = o->db_owned ? INT64_MAX : writer_due_ms(o); /* the owner calls */
            thread_cond_wait(&o->writer_called, &o->lock, o->wake_at_ms);
        }
        o->wake_at_ms = INT64_MIN;
        last = o->stopping;
        if (!last && clock_monotonic_ms() >= o->tick_at_ms)
            outbox_own_db(o, tick);
        if (last || clock_monotonic_ms() >= o->commit_at_ms)
            outbox_own_db(o, outbox_commit);
        outbox_call_taker(o);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

bool outbox_writer_start(struct outbox *o, struct error *err)
{
    if (!make_usable(o, err))
        return false;
    o->commit_at_ms = INT64_MAX;
    o->tick_at_ms = clock_monotonic_ms() + OUTBOX_TICK_MS;
    return thread_start(&o->writer, writer_main, o, err);
}
