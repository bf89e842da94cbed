/* Deletion in three steps: the row is marked, and hidden; object and result go; the row goes. What
 * was marked is finished after a kill; an upload of the same picture, by whomever, waits until
 * then. Of several owners that delete it at the same time the last one deletes the object. */
#include "base/clock.h"
#include "base/xmalloc.h"
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"
#include "objects/object_name.h"

#include <string.h>

enum {
    LEFT_BEHIND_MS = 60000, /* a deletion that still runs is younger */
    BATCH = 64,
};

struct marked {
    struct catalogue *catalogue;
    const char *id, *owner;    /* in */
    int64_t now_ms, before_ms; /* before_ms: only what was marked before that; 0: any */
    bool found, shared;        /* out; shared: another owner has it, too, and keeps it */
    struct object_name name;
};

static bool mark(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct marked *m = ctx;
    enum db_step step;

    m->found = m->shared = false;
    if (!catalogue_lock(s, m->id, err) ||
        !db_query(s, "SELECT owner, id, format, sealed, deleted_ms FROM image WHERE id = ?1",
                  DB_ARGS(db_text(m->id)), &rows, err))
        return false;
    while ((step = db_step(&rows, err)) == DB_ROW) {
        bool own = strcmp(db_column_text(&rows, 0), m->owner) == 0;
        int64_t deleted_ms = db_column_int(&rows, 4);
        m->found |= own && (m->before_ms == 0 || (deleted_ms > 0 && deleted_ms < m->before_ms));
        m->shared |= !own && deleted_ms == 0;
        m->name = catalogue_name(&rows, 1, 2, 3);
    }
    return step == DB_DONE &&
           (!m->found ||
            db_run(s, "UPDATE image SET deleted_ms = ?3 WHERE id = ?1 AND owner = ?2",
                   DB_ARGS(db_text(m->id), db_text(m->owner), db_int(m->now_ms)), NULL, err));
}

/* `owner` NULL: of all. */
struct drop {
    const char *id, *owner;
};

struct dropped {
    int64_t seq;
    char *labels, *tags;
};

static bool drop_row(struct db_session *s, const struct dropped *row, struct error *err)
{
    return catalogue_tags_replace(s, row->seq, (const char *const[]){row->labels, row->tags},
                                  (const char *const[]){NULL, NULL}, err) &&
           db_run(s, "DELETE FROM image WHERE seq = ?1", DB_ARGS(db_int(row->seq)), NULL, err);
}

static bool drop_batch(struct db_session *s, const struct drop *d, bool *more, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct dropped found[BATCH];
    size_t count = 0;
    enum db_step step = DB_DONE;

    if (!catalogue_lock(s, d->id, err) ||
        !db_query(s, "SELECT seq, labels, tags, owner FROM image WHERE id = ?1",
                  DB_ARGS(db_text(d->id)), &rows, err))
        return false;
    while (count < BATCH && (step = db_step(&rows, err)) == DB_ROW)
        if (d->owner == NULL || strcmp(d->owner, db_column_text(&rows, 3)) == 0)
            found[count++] =
                (struct dropped){db_column_int(&rows, 0), xstrdup(db_column_text(&rows, 1)),
                                 xstrdup(db_column_text(&rows, 2))};
    db_rows_done(&rows);
    bool ok = step != DB_FAILED;
    for (size_t i = 0; i < count; i++) {
        ok = ok && drop_row(s, &found[i], err);
        free(found[i].labels);
        free(found[i].tags);
    }
    *more = count == BATCH;
    return ok;
}

static bool drop(void *ctx, struct db_session *s, struct error *err)
{
    bool more = true;

    while (more)
        if (!drop_batch(s, ctx, &more, err))
            return false;
    return true;
}

static bool drop_rows(struct catalogue *c, struct drop *d, int64_t deadline_ms, struct error *err)
{
    atomic_fetch_add(&c->deletions, 1);
    return db_write(c->db, drop, d, deadline_ms, err);
}

static bool delete_objects(const struct marked *m, int64_t deadline_ms, struct error *err)
{
    const struct catalogue *c = m->catalogue;
    char object[STORE_KEY_MAX + 1], result[STORE_KEY_MAX + 1];

    return catalogue_keys(c, &m->name, object, result, err) &&
           store_delete(c->store, object, deadline_ms, err) &&
           store_delete(c->store, result, deadline_ms, err);
}

/* What is marked: the other two steps. */
static bool finish(const struct marked *m, int64_t deadline_ms, struct error *err)
{
    struct drop d = {.id = m->id, .owner = m->owner};

    return (m->shared || delete_objects(m, deadline_ms, err)) &&
           drop_rows(m->catalogue, &d, deadline_ms, err);
}

bool catalogue_delete(struct catalogue *c, const char *id, const char *owner, int64_t deadline_ms,
                      struct error *err)
{
    struct marked m = {.catalogue = c, .id = id, .owner = owner, .now_ms = clock_wall_ms()};
    const int64_t longest_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS;

    if (deadline_ms > longest_ms) /* else it counts as left behind, and is finished beside this */
        deadline_ms = longest_ms;
    if (!db_write(c->db, mark, &m, deadline_ms, err))
        return error_wrap(err, "catalogue");
    if (!m.found)
        return error_set(err, ERROR_NOT_FOUND, "no such image");
    /* The mark outlasts a power cut, and no record of the outbox brings the row back. */
    return catalogue_flush(c, err) && finish(&m, deadline_ms, err);
}

/* ---- beside a write ---- */

struct state {
    const char *id;
    enum catalogue_state state;
};

static bool read_state(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct state *st = ctx;

    st->state = CATALOGUE_NO_ROW;
    if (!db_query(s, "SELECT deleted_ms FROM image WHERE id = ?1 ORDER BY deleted_ms LIMIT 1",
                  DB_ARGS(db_text(st->id)), &rows, err))
        return false;
    enum db_step step = db_step(&rows, err);
    if (step == DB_ROW)
        st->state = db_column_int(&rows, 0) == 0 ? CATALOGUE_LISTED : CATALOGUE_BEING_DELETED;
    return step != DB_FAILED;
}

bool catalogue_state(struct catalogue *c, const char *id, enum catalogue_state *ret,
                     int64_t deadline_ms, struct error *err)
{
    struct state st = {.id = id};
    bool ok = db_read(c->db, read_state, &st, deadline_ms, err) || error_wrap(err, "catalogue");

    *ret = st.state;
    return ok;
}

/* A marked row of nobody's: no upload comes between. */
static bool insert_mark(const struct marked *m, struct db_session *s, struct error *err)
{
    return db_run(s,
                  "INSERT INTO image (seq, id, owner, format, width, height, bytes, sealed,"
                  " deleted_ms) VALUES (?1, ?2, '', ?3, 0, 0, 0, ?4, ?5)"
                  " ON CONFLICT (id, owner) DO NOTHING",
                  DB_ARGS(db_int(catalogue_next_seq(m->catalogue)), db_text(m->id),
                          db_text(image_format_name(m->name.format)), db_int(m->name.sealed),
                          db_int(m->now_ms)),
                  NULL, err);
}

/* m->found: no row is listed; those that are there are being deleted. */
static bool mark_unlisted(void *ctx, struct db_session *s, struct error *err)
{
    struct marked *m = ctx;
    struct state st = {.id = m->id};

    if (!catalogue_lock(s, m->id, err) || !read_state(&st, s, err))
        return false;
    m->found = st.state != CATALOGUE_LISTED;
    return !m->found || insert_mark(m, s, err);
}

bool catalogue_delete_unlisted(struct catalogue *c, const struct object_name *name,
                               int64_t deadline_ms, struct error *err)
{
    struct marked m = {
        .catalogue = c, .id = name->id, .owner = "", .now_ms = clock_wall_ms(), .name = *name};

    return (db_write(c->db, mark_unlisted, &m, deadline_ms, err) || error_wrap(err, "catalogue")) &&
           (!m.found || finish(&m, deadline_ms, err));
}

static bool mark_all(void *ctx, struct db_session *s, struct error *err)
{
    struct marked *m = ctx;
    int64_t marked = 0;

    return catalogue_lock(s, m->id, err) &&
           db_run(s, "UPDATE image SET deleted_ms = ?2 WHERE id = ?1",
                  DB_ARGS(db_text(m->id), db_int(m->now_ms)), &marked, err) &&
           (marked > 0 || insert_mark(m, s, err));
}

bool catalogue_begin_deletion(struct catalogue *c, const struct object_name *name,
                              int64_t deadline_ms, struct error *err)
{
    struct marked m = {.catalogue = c, .id = name->id, .now_ms = clock_wall_ms(), .name = *name};

    return (db_write(c->db, mark_all, &m, deadline_ms, err) && catalogue_flush(c, err)) ||
           error_wrap(err, "catalogue");
}

static bool forget(struct catalogue *c, const char *id, int64_t deadline_ms, struct error *err)
{
    struct drop d = {.id = id};

    return drop_rows(c, &d, deadline_ms, err) || error_wrap(err, "catalogue");
}

/* No mark any more; the row of nobody's that was made for one goes. */
static bool unmark(void *ctx, struct db_session *s, struct error *err)
{
    const struct marked *m = ctx;

    return catalogue_lock(s, m->id, err) &&
           db_run(s, "DELETE FROM image WHERE id = ?1 AND deleted_ms > 0 AND bytes = 0",
                  DB_ARGS(db_text(m->id)), NULL, err) &&
           db_run(s, "UPDATE image SET deleted_ms = 0 WHERE id = ?1", DB_ARGS(db_text(m->id)), NULL,
                  err);
}

bool catalogue_end_deletion(struct catalogue *c, const char *id, bool deleted, int64_t deadline_ms,
                            struct error *err)
{
    struct marked m = {.catalogue = c, .id = id};

    if (deleted)
        return forget(c, id, deadline_ms, err);
    return db_write(c->db, unmark, &m, deadline_ms, err) || error_wrap(err, "catalogue");
}

bool catalogue_forget_lost(struct catalogue *c, const struct object_name *name, int64_t deadline_ms,
                           struct error *err)
{
    char object[STORE_KEY_MAX + 1], result[STORE_KEY_MAX + 1];
    struct error why = {0};

    if (!catalogue_keys(c, name, object, result, err) ||
        !catalogue_begin_deletion(c, name, deadline_ms, err))
        return false;
    bool there = store_head(c->store, object, deadline_ms, NULL, &why);
    bool lost = !there && why.code == ERROR_NOT_FOUND;
    if (!catalogue_end_deletion(c, name->id, lost, deadline_ms, err))
        return false;
    if (there || lost)
        return true;
    *err = why;
    return false;
}

/* ---- after a kill ---- */

struct left_behind {
    int64_t before_ms;
    struct {
        char id[SHA256_HEX_LEN + 1];
        char *owner;
    } rows[BATCH];
    size_t count;
};

static bool find_left_behind(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct left_behind *l = ctx;
    enum db_step step = DB_DONE;

    if (!db_query(s,
                  "SELECT id, owner FROM image WHERE deleted_ms > 0 AND deleted_ms < ?1"
                  " LIMIT 64",
                  DB_ARGS(db_int(l->before_ms)), &rows, err))
        return false;
    while (l->count < BATCH && (step = db_step(&rows, err)) == DB_ROW) {
        snprintf(l->rows[l->count].id, sizeof(l->rows[0].id), "%s", db_column_text(&rows, 0));
        l->rows[l->count++].owner = xstrdup(db_column_text(&rows, 1));
    }
    return step != DB_FAILED;
}

bool catalogue_finish_deletions(struct catalogue *c, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS;
    struct left_behind left = {.before_ms = clock_wall_ms() - LEFT_BEHIND_MS};
    bool ok = db_read(c->db, find_left_behind, &left, deadline_ms, err);

    for (size_t i = 0; i < left.count; i++) {
        struct marked m = {.catalogue = c,
                           .id = left.rows[i].id,
                           .owner = left.rows[i].owner,
                           .now_ms = clock_wall_ms(),
                           .before_ms = left.before_ms};
        ok = ok && db_write(c->db, mark, &m, deadline_ms, err) &&
             (!m.found || finish(&m, deadline_ms, err));
        free(left.rows[i].owner);
    }
    return ok;
}
