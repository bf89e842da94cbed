/* The thread that looks after the catalogue: views and rows go to the disk once a second, results
 * are looked for, what a killed process left is finished, a damaged file is replaced, a new one
 * filled. */
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"

#include <string.h>

enum {
    FLUSH_MS = 1000,
    VIEWS_MAX = 65536, /* so many in a second are written at once */
    STORED_MAX = 65536,
    GATHER_MS = 50, /* a transaction of many costs little more than that of one */
    ROW_MS = 5000,  /* a row may come so much later than its result */
    ONCE_MS = 1000, /* start-up is not disturbed */
    RETRY_MS = 30000,
};

/* ---- rows and views ---- */

void catalogue_note_record(struct catalogue *c, int64_t record_seq)
{
    if (record_seq == 0)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->record_count == c->record_room) {
        c->record_room = c->record_room > 0 ? 2 * c->record_room : 256;
        c->records = xreallocarray(c->records, c->record_room, sizeof(*c->records));
    }
    c->records[c->record_count++] = record_seq;
    pthread_mutex_unlock(&c->lock);
}

int64_t catalogue_pending(struct catalogue *c)
{
    pthread_mutex_lock(&c->lock);
    size_t count = c->record_count;
    pthread_mutex_unlock(&c->lock);
    return (int64_t)count;
}

/* Those that were noted before the sync began; the rest stays for the next. */
static bool flush_records(struct catalogue *c, struct error *err)
{
    int file = db_replaced(c->db);

    pthread_mutex_lock(&c->lock);
    int64_t *records = TAKE_PTR(c->records);
    size_t count = c->record_count;
    c->record_count = c->record_room = 0;
    pthread_mutex_unlock(&c->lock);
    int64_t commits = db_commits(c->db); /* with those of the records */
    bool ok = commits == atomic_load(&c->synced) || db_sync(c->db, err);
    if (ok)
        atomic_store(&c->synced, commits);
    if (ok && (db_is_damaged(c->db) || file != db_replaced(c->db))) /* it comes from the records */
        ok = error_set(err, ERROR_UNAVAILABLE, "the catalogue's file is being replaced");
    ok = ok && (count == 0 || outbox_forget(c->outbox, records, count, err));
    for (size_t i = 0; !ok && i < count; i++)
        catalogue_note_record(c, records[i]);
    free(records);
    return ok;
}

void catalogue_viewed(struct catalogue *c, const char *id, const char *viewer)
{
    pthread_mutex_lock(&c->lock);
    if (c->view_count == c->view_room && c->view_room < VIEWS_MAX) {
        c->view_room = c->view_room > 0 ? 2 * c->view_room : 64;
        c->views = xreallocarray(c->views, c->view_room, sizeof(*c->views));
    }
    if (c->view_count < c->view_room) {
        struct catalogue_view *view = &c->views[c->view_count++];
        snprintf(view->id, sizeof(view->id), "%s", id);
        view->viewer = *viewer != '\0' ? xstrdup(viewer) : NULL;
    }
    if (c->view_count == VIEWS_MAX)
        pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

struct views {
    struct catalogue_view *views;
    size_t count;
};

static const char *viewer_of(const struct catalogue_view *view)
{
    return view->viewer != NULL ? view->viewer : "";
}

static int compare_views(const void *a, const void *b)
{
    const struct catalogue_view *one = a, *two = b;
    int order = strcmp(one->id, two->id);

    return order != 0 ? order : strcmp(viewer_of(one), viewer_of(two));
}

static bool write_views(void *ctx, struct db_session *s, struct error *err)
{
    struct views *v = ctx;

    for (size_t i = 0, n; i < v->count; i += n) {
        for (n = 1; i + n < v->count && compare_views(&v->views[i], &v->views[i + n]) == 0; n++)
            ;
        if (!db_run(s,
                    "UPDATE image SET views = views + ?2"
                    " WHERE id = ?1 AND (owner = '' OR owner <> ?3)",
                    DB_ARGS(db_text(v->views[i].id), db_int((int64_t)n),
                            db_text(viewer_of(&v->views[i]))),
                    NULL, err))
            return false;
    }
    return true;
}

static bool flush_views(struct catalogue *c, struct error *err)
{
    pthread_mutex_lock(&c->lock);
    struct views v = {c->views, c->view_count};
    c->views = NULL;
    c->view_count = c->view_room = 0;
    pthread_mutex_unlock(&c->lock);
    if (v.count == 0)
        return true;
    qsort(v.views, v.count, sizeof(*v.views), compare_views); /* one order: no deadlocks */
    bool ok = db_write(c->db, write_views, &v, clock_monotonic_ms() + CATALOGUE_CALL_MS, err);
    for (size_t i = 0; i < v.count; i++) {
        if (!ok)
            catalogue_viewed(c, v.views[i].id, viewer_of(&v.views[i]));
        free(v.views[i].viewer);
    }
    free(v.views);
    return ok;
}

bool catalogue_flush(struct catalogue *c, struct error *err)
{
    return flush_views(c, err) && (c->outbox == NULL || flush_records(c, err));
}

/* ---- results ---- */

/* Beyond the maximum they are found by looking. */
static void note_stored(struct catalogue *c, const struct catalogue_stored *stored)
{
    pthread_mutex_lock(&c->lock);
    if (c->stored_count == c->stored_room && c->stored_room < STORED_MAX) {
        c->stored_room = c->stored_room > 0 ? 2 * c->stored_room : 64;
        c->stored = xreallocarray(c->stored, c->stored_room, sizeof(*c->stored));
    }
    if (c->stored_count == 0) {
        c->stored_due_ms = clock_monotonic_ms() + GATHER_MS;
        pthread_cond_broadcast(&c->wake);
    }
    if (c->stored_count < c->stored_room)
        c->stored[c->stored_count++] = *stored;
    pthread_mutex_unlock(&c->lock);
}

void catalogue_result_stored(struct catalogue *c, const struct object_name *name)
{
    note_stored(
        c, &(struct catalogue_stored){.name = *name, .until_ms = clock_monotonic_ms() + ROW_MS});
}

static bool learn_stored(struct catalogue *c, struct error *err)
{
    pthread_mutex_lock(&c->lock);
    struct catalogue_stored *stored = TAKE_PTR(c->stored);
    size_t count = c->stored_count;
    c->stored_count = c->stored_room = 0;
    pthread_mutex_unlock(&c->lock);
    bool ok = count == 0 || catalogue_learn(c, stored, count, err);
    int64_t now_ms = clock_monotonic_ms();
    for (size_t i = 0; ok && i < count; i++)
        if (!stored[i].seen && now_ms < stored[i].until_ms)
            note_stored(c, &stored[i]);
    free(stored);
    return ok;
}

/* ---- what a new catalogue needs ---- */

static bool read_wanted(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};

    if (!db_query(s, "SELECT value FROM catalogue_meta WHERE name = 'rebuild'", DB_NO_ARGS, &rows,
                  err))
        return false;
    enum db_step step = db_step(&rows, err);
    *(bool *)ctx = step == DB_ROW && db_column_int(&rows, 0) != 0;
    return step != DB_FAILED;
}

/* Of several instances at a shared database one does it; if that dies, the next to start. */
static bool fill(struct catalogue *c, struct error *err)
{
    struct catalogue_rebuilt rebuilt;
    bool wanted = false;

    if (!db_read(c->db, read_wanted, &wanted, clock_monotonic_ms() + CATALOGUE_CALL_MS, err))
        return false;
    if (!wanted)
        return true;
    if (!catalogue_rebuild(c, &rebuilt, err))
        return false;
    if (rebuilt.added > 0)
        log_info("the catalogue is new: filled from the store", F("added", rebuilt.added));
    return true;
}

static void *filler_main(void *arg)
{
    struct catalogue *c = arg;
    int64_t due_ms = clock_monotonic_ms() + ONCE_MS;

    pthread_mutex_lock(&c->lock);
    int file = c->prepared;
    while (!c->stopping) {
        struct error err = {0};
        if (file == c->prepared && due_ms > clock_monotonic_ms()) {
            thread_cond_wait(&c->replaced, &c->lock, due_ms);
            continue;
        }
        file = c->prepared;
        pthread_mutex_unlock(&c->lock);
        bool ok = fill(c, &err);
        if (!ok && err.code != ERROR_SHUTTING_DOWN)
            log_warning("the catalogue cannot be filled from the store; trying again",
                        F("error", (const char *)err.message));
        pthread_mutex_lock(&c->lock);
        due_ms = ok ? INT64_MAX : clock_monotonic_ms() + RETRY_MS;
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the thread ---- */

struct turn {
    int64_t flush_ms, look_ms, rest_ms; /* due */
    bool looked, failing;
};

/* Damage that was found since the start. The rows come from the outbox and the store. */
static bool replace_damaged(struct catalogue *c, struct error *err)
{
    if (db_is_damaged(c->db)) {
        if (!db_set_aside(c->db, err))
            return false;
        log_error("the catalogue's file was damaged: it is set aside, and a new one is filled");
    }
    if (c->prepared == db_replaced(c->db))
        return true;
    if (!catalogue_prepare(c, err))
        return false;
    pthread_mutex_lock(&c->lock);
    c->prepared = db_replaced(c->db);
    pthread_cond_signal(&c->replaced);
    pthread_mutex_unlock(&c->lock);
    return true;
}

static bool work(struct catalogue *c, struct turn *t, struct error *err)
{
    int64_t now = clock_monotonic_ms();
    struct error ignored = {0};
    bool more = false, ok = true;

    if (!replace_damaged(c, err) || !learn_stored(c, err))
        return false;
    if (now >= t->flush_ms) {
        t->flush_ms = now + FLUSH_MS;
        if (!catalogue_flush(c, err))
            return false;
        db_tidy(c->db);
    }
    if (now >= t->look_ms) {
        t->look_ms = now + CATALOGUE_LOOK_MS;
        t->looked = t->looked || catalogue_look_soon(c, err);
        ok = t->looked && catalogue_look_for_results(c, &more, err);
        if (ok && more)
            t->look_ms = now;
    }
    if (now >= t->rest_ms) {
        t->rest_ms = now + RETRY_MS;
        ok = catalogue_finish_deletions(c, ok ? err : &ignored) && ok;
    }
    return ok;
}

/* One line when it begins to fail, one when it ends. */
static void report(struct turn *t, bool ok, const struct error *err)
{
    if (!ok)
        metric_add(METRIC_CATALOGUE_FAILURES, "", 1);
    if (!ok && !t->failing)
        log_warning("the catalogue cannot be looked after; trying again",
                    F("error", (const char *)err->message));
    else if (ok && t->failing)
        log_info("the catalogue is looked after again");
    t->failing = !ok;
}

static int64_t due_ms(const struct catalogue *c, const struct turn *t)
{
    int64_t due = t->flush_ms < t->look_ms ? t->flush_ms : t->look_ms;

    due = t->rest_ms < due ? t->rest_ms : due;
    due = c->stored_count > 0 && c->stored_due_ms < due ? c->stored_due_ms : due;
    return c->view_count == VIEWS_MAX ? 0 : due;
}

static void *keeper_main(void *arg)
{
    struct catalogue *c = arg;
    int64_t now = clock_monotonic_ms();
    struct turn t = {
        .flush_ms = now + FLUSH_MS, .look_ms = now + CATALOGUE_LOOK_MS, .rest_ms = now + ONCE_MS};
    struct error err = {0};

    pthread_mutex_lock(&c->lock);
    while (!c->stopping) {
        if (due_ms(c, &t) > clock_monotonic_ms()) {
            thread_cond_wait(&c->wake, &c->lock, due_ms(c, &t));
            continue;
        }
        t.flush_ms = c->view_count == VIEWS_MAX ? 0 : t.flush_ms;
        pthread_mutex_unlock(&c->lock);
        bool ok = work(c, &t, &err);
        report(&t, ok, &err);
        if (!ok)
            clock_pause(CATALOGUE_LOOK_MS);
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    if (!learn_stored(c, &err) || !catalogue_flush(c, &err))
        log_warning(
            "the catalogue's last views may be lost; its rows and labels come at the next start",
            F("error", (const char *)err.message));
    return NULL;
}

bool catalogue_keeper_start(struct catalogue *c, struct error *err)
{
    c->prepared = db_replaced(c->db);
    if (!thread_start(&c->keeper, keeper_main, c, err))
        return false;
    c->running = true;
    c->filling = thread_start(&c->filler, filler_main, c, err);
    return c->filling;
}

void catalogue_keeper_stop(struct catalogue *c)
{
    if (!c->running)
        return;
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_broadcast(&c->wake);
    pthread_cond_signal(&c->replaced);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->keeper, NULL);
    if (c->filling)
        pthread_join(c->filler, NULL);
    c->running = false;
}
