#include "base/clock.h"
#include "base/threads.h"
#include "events/outbox/outbox_internal.h"

#include <string.h>

/* ---- the state of the file */

static int on_commit(void *ctx, sqlite3 *handle, const char *name, int frames)
{
    struct outbox *o = ctx;

    (void)handle;
    (void)name;
    o->wal_frames = (uint32_t)frames;
    o->commits++;
    return SQLITE_OK;
}

void outbox_note_damage(struct outbox *o)
{
    if (outbox_db_says_damaged(o->db.handle))
        o->suspect = true;
}

static bool recount(struct outbox *o, struct error *err)
{
    struct outbox_counts counts;

    if (!outbox_db_counts(&o->db, &counts, err)) {
        outbox_note_damage(o);
        return false;
    }
    pthread_mutex_lock(&o->lock);
    o->counts = counts;
    o->fetch_now = true;
    pthread_mutex_unlock(&o->lock);
    return true;
}

static enum outbox_verdict open_and_count(struct outbox *o, struct error *err)
{
    enum outbox_verdict verdict = outbox_db_open(o->path, &o->db, err);

    if (verdict != OUTBOX_OK)
        return verdict;
    o->suspect = false;
    o->wal_frames = 0;
    o->version = outbox_db_version(&o->db);
    sqlite3_wal_hook(o->db.handle, on_commit, o);
    if (recount(o, err)) {
        o->files = outbox_files_stat(o->path);
        return OUTBOX_OK;
    }
    outbox_db_abandon(&o->db);
    return o->suspect ? OUTBOX_DAMAGED : OUTBOX_FAILED;
}

bool outbox_writer_start(struct outbox *o, struct error *err)
{
    enum outbox_verdict verdict = open_and_count(o, err);

    if (verdict == OUTBOX_DAMAGED) {
        if (!outbox_recover(o->path, NULL, err))
            return false;
        verdict = open_and_count(o, err);
    }
    if (verdict == OUTBOX_DAMAGED)
        error_set(err, ERROR_UNAVAILABLE, "outbox: damaged again at once");
    return verdict == OUTBOX_OK;
}

/* The files are as we left them, now that we wrote to them. */
static void remember_files(struct outbox *o)
{
    struct outbox_files now = outbox_files_stat(o->path);

    if (outbox_files_replaced(&o->files, &now))
        o->suspect = true;
    o->files = now;
}

static bool header_intact(sqlite3 *handle)
{
    static const char magic[16] = "SQLite format 3";
    sqlite3_file *file = NULL;
    uint8_t header[100];

    return sqlite3_file_control(handle, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK &&
           file->pMethods->xRead(file, header, sizeof(header), 0) == SQLITE_OK &&
           memcmp(header, magic, sizeof(magic)) == 0 &&
           header[16] * 256 + header[17] == OUTBOX_PAGE_SIZE;
}

/* Inside a transaction, so that no other process is half-way through a commit. */
static bool verify(struct outbox *o, bool written, struct error *err)
{
    int64_t version = outbox_db_version(&o->db);
    bool foreign = version != o->version;

    if (foreign) { /* an operator's commit: the counts of our last one say nothing any more */
        o->version = version;
        o->wal_frames = 0;
        if (!recount(o, err))
            return o->suspect;
    }
    enum outbox_verdict wal = outbox_wal_check(o->path, o->wal_frames, err);
    if (wal == OUTBOX_FAILED)
        return false;
    if (wal == OUTBOX_DAMAGED || !header_intact(o->db.handle)) {
        o->suspect = true;
    } else if (written && !foreign) { /* by somebody who does not use SQLite */
        enum outbox_verdict verdict = outbox_db_check(o->path, err);
        o->suspect = verdict == OUTBOX_DAMAGED;
        return verdict != OUTBOX_FAILED;
    }
    return true;
}

/* Notice what others did to the files. `thorough`: read the -wal even when nobody did, since what
 * happens in the moment of our own commits does not show in the times of the files. */
static bool look(struct outbox *o, bool thorough, struct error *err)
{
    struct outbox_files now = outbox_files_stat(o->path);
    bool written = outbox_files_written(&o->files, &now);

    if (outbox_files_replaced(&o->files, &now))
        o->suspect = true;
    if (o->suspect || (!written && !thorough))
        return true;
    if (!outbox_db_step(&o->db, SQL_BEGIN, err)) {
        outbox_note_damage(o);
        return o->suspect;
    }
    bool ok = verify(o, written, err);
    struct error ignored;
    if (!outbox_db_step(&o->db, SQL_ROLLBACK, &ignored))
        outbox_note_damage(o);
    if (ok)
        remember_files(o);
    return ok;
}

/* A database that can be written to, as far as one can tell; recovered if it was damaged. */
static bool make_usable(struct outbox *o, bool thorough, struct error *err)
{
    if (o->db.handle != NULL) {
        if (!look(o, thorough, err))
            return false;
        if (!o->suspect)
            return true;
        if (!outbox_recover(o->path, o->db.handle, err))
            return false;
        outbox_db_abandon(&o->db);
    }
    return outbox_writer_start(o, err);
}

/* ---- batches */

static bool commit_batch(struct outbox *o, struct request_list *batch, struct outbox_counts *counts,
                         struct error *err)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (!make_usable(o, false, err))
            return false;
        *counts = o->counts; /* nobody else changes them */
        bool ok = outbox_batch_commit(o, batch, counts, err);
        remember_files(o); /* deleted meanwhile? then the commit is made again, in a new file */
        if (!o->suspect)
            return ok;
    }
    return error_set(err, ERROR_UNAVAILABLE, "outbox: damaged again at once");
}

static void finish_settlement(struct outbox *o, struct request *r)
{
    struct lease *lease = r->lease;

    if (r->kind != REQUEST_REFUSED)
        o->settling_pending--;
    if (r->kind == REQUEST_BURY)
        o->settling_dead--;
    TAILQ_REMOVE(&o->taken, lease, link);
    o->leases--;
    outbox_lease_free(lease);
}

/* Tell the callers. Settlements that did not succeed are kept for another try. */
static void finish_batch(struct outbox *o, struct request_list *batch, const struct error *failure)
{
    struct request *r;

    while ((r = TAILQ_FIRST(batch)) != NULL) {
        TAILQ_REMOVE(batch, r, link);
        if (r->kind == REQUEST_ADD || r->kind == REQUEST_RECONCILED) {
            if (failure != NULL)
                r->err = *failure;
            r->done = true;
            pthread_cond_signal(&r->changed);
        } else if (failure != NULL) {
            TAILQ_INSERT_TAIL(&o->unsettled, r, link);
        } else {
            finish_settlement(o, r);
        }
    }
}

static void checkpoint(struct outbox *o)
{
    int frames = 0;
    int copied = 0;

    pthread_mutex_lock(&o->lock);
    o->checkpoint_due = false;
    pthread_mutex_unlock(&o->lock);
    /* On failure the -wal grows and the next commit tries again. */
    if (sqlite3_wal_checkpoint_v2(o->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames,
                                  &copied) != SQLITE_OK)
        outbox_note_damage(o);
    else if (copied == frames)
        o->wal_frames = 0; /* the next commit begins a new -wal, even if it fails */
    remember_files(o);
}

static void run_batch(struct outbox *o, struct request_list *batch)
{
    struct outbox_counts counts;
    struct error err = {0};
    bool ok = commit_batch(o, batch, &counts, &err);

    pthread_mutex_lock(&o->lock);
    if (ok) {
        o->counts = counts;
        o->fetch_now = true;
        o->checkpoint_due = o->wal_frames >= OUTBOX_CHECKPOINT_FRAMES;
    }
    finish_batch(o, batch, ok ? NULL : &err);
    pthread_mutex_unlock(&o->lock);
}

static void tick(struct outbox *o)
{
    struct error ignored; /* whoever needs the outbox next is told */
    bool thorough = o->commits != o->commits_seen ||
                    (o->db.handle != NULL && outbox_db_version(&o->db) != o->version);

    o->tick_at_ms = clock_monotonic_ms() + OUTBOX_TICK_MS;
    if (make_usable(o, thorough, &ignored))
        o->commits_seen = o->commits;
}

/* ---- turns */

static bool may_fetch(const struct outbox *o)
{
    return o->takers > 0 && TAILQ_EMPTY(&o->ready) && o->leases < OUTBOX_LEASES_MAX && !o->woken;
}

bool outbox_wants_fetch(const struct outbox *o, int64_t now_ms)
{
    return may_fetch(o) && (o->fetch_now || now_ms >= o->fetch_at_ms);
}

/* When settlements are to be committed even if nothing else is. */
static int64_t settle_at_ms(const struct outbox *o)
{
    if (o->settlement_count == 0)
        return INT64_MAX;
    return o->settlement_count < OUTBOX_SETTLE_MAX ? o->settle_at_ms : 0;
}

static bool has_work(const struct outbox *o)
{
    return o->stopping || o->checkpoint_due || !TAILQ_EMPTY(&o->queue);
}

static int64_t writer_due_ms(const struct outbox *o)
{
    int64_t settle_ms = settle_at_ms(o);
    int64_t due_ms = o->tick_at_ms < settle_ms ? o->tick_at_ms : settle_ms;

    if (has_work(o))
        return 0;
    return may_fetch(o) && o->fetch_at_ms < due_ms ? o->fetch_at_ms : due_ms;
}

bool outbox_writer_first(const struct outbox *o)
{
    return o->checkpoint_due || clock_monotonic_ms() >= o->tick_at_ms;
}

void outbox_call_writer(struct outbox *o)
{
    if (!o->busy && writer_due_ms(o) < o->wake_at_ms)
        pthread_cond_signal(&o->work);
}

void outbox_call_taker(struct outbox *o)
{
    if (!TAILQ_EMPTY(&o->ready) || outbox_wants_fetch(o, clock_monotonic_ms()))
        pthread_cond_signal(&o->ready_changed);
}

void outbox_turn(struct outbox *o, void (*work)(struct outbox *outbox))
{
    o->busy = true;
    pthread_mutex_unlock(&o->lock);
    work(o);
    pthread_mutex_lock(&o->lock);
    o->busy = false;
    outbox_call_writer(o);
}

/* Everything that waits. */
static void take_batch(struct outbox *o, struct request_list *batch)
{
    struct request *r;

    pthread_mutex_lock(&o->lock);
    TAILQ_CONCAT(batch, &o->unsettled, link);
    TAILQ_CONCAT(batch, &o->settlements, link);
    TAILQ_CONCAT(batch, &o->queue, link);
    o->settlement_count = 0;
    TAILQ_FOREACH(r, batch, link)
    {
        r->started = true;
    }
    pthread_mutex_unlock(&o->lock);
}

void outbox_commit(struct outbox *o)
{
    struct request_list batch = TAILQ_HEAD_INITIALIZER(batch);

    take_batch(o, &batch);
    if (!TAILQ_EMPTY(&batch))
        run_batch(o, &batch);
    pthread_mutex_lock(&o->lock);
    bool fetch = o->fetch_asked && outbox_wants_fetch(o, clock_monotonic_ms());
    o->fetch_asked = false;
    pthread_mutex_unlock(&o->lock);
    if (fetch)
        outbox_fetch(o);
}

/* ---- the thread: what no caller does, because nobody waits for it or somebody else is at work */

/* With the lock held, which is free meanwhile. */
static void wait_for_turn(struct outbox *o)
{
    while (o->busy || writer_due_ms(o) > clock_monotonic_ms()) {
        o->wake_at_ms = o->busy ? INT64_MAX : writer_due_ms(o); /* a turn's end calls */
        thread_cond_wait(&o->work, &o->lock, o->wake_at_ms);
    }
    o->wake_at_ms = INT64_MIN;
}

void *outbox_writer_main(void *arg)
{
    struct outbox *o = arg;
    bool last = false;

    pthread_mutex_lock(&o->lock);
    while (!last) {
        wait_for_turn(o);
        int64_t now_ms = clock_monotonic_ms();
        last = o->stopping;
        if (now_ms >= o->tick_at_ms && !last) {
            outbox_turn(o, tick);
            if (!TAILQ_EMPTY(&o->unsettled))
                outbox_turn(o, outbox_commit);
        } else if (o->checkpoint_due && !last) {
            outbox_turn(o, checkpoint);
        } else if (last || !TAILQ_EMPTY(&o->queue) || now_ms >= settle_at_ms(o)) {
            outbox_turn(o, outbox_commit);
        } else if (outbox_wants_fetch(o, now_ms)) {
            outbox_turn(o, outbox_fetch);
        }
        outbox_call_taker(o);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}
