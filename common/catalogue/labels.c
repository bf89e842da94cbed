/* What is on a picture, from the result that classify_service stored beside it: read when a push's
 * reply says that it is there, and looked for when nothing does. */
#include "base/clock.h"
#include "base/xmalloc.h"
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum {
    LOOK_AGAIN_MS = 700, /* at the second of the looks, 400 ms apart, whatever their jitter */
    LATE_MS = 60000,
    /* The more pictures wait, the longer each: together these are looked at so often. */
    YOUNG_SHARE_MS = 6,
    LATE_SHARE_MS = 200,
    AGE_SHARE = 16,      /* but never later than after this part of its age */
    HEAD_SHARE = 16,     /* of the looks for late ones: whether the object is still there */
    WAITING_MAX = 10000, /* counted no further */
    GIVE_UP_MS = 7 * 24 * 3600 * 1000,
    BATCH = 64,
};

struct labels {
    const char *id;
    char *label; /* "": there is none, and will be none */
    double confidence;
    char *labels; /* the column's text */
    bool seen;    /* a row */
};

static void labels_done(struct labels *l)
{
    free(l->label);
    free(l->labels);
}

static bool apply_to(struct db_session *s, const struct labels *l, const struct db_rows *row,
                     struct error *err)
{
    const char *before = db_column_text(row, 1), *tags = db_column_text(row, 2);
    int64_t seq = db_column_int(row, 0);

    return (strcmp(before, l->labels) == 0 ||
            catalogue_tags_replace(s, seq, (const char *const[]){before, tags},
                                   (const char *const[]){l->labels, tags}, err)) &&
           db_run(
               s,
               "UPDATE image SET label = ?2, confidence = ?3, labels = ?4, label_due_ms = NULL"
               " WHERE seq = ?1",
               DB_ARGS(db_int(seq), db_text(l->label), db_real(l->confidence), db_text(l->labels)),
               NULL, err);
}

/* One row an owner. */
static bool apply(void *ctx, struct db_session *s, struct error *err)
{
    struct labels *l = ctx;
    int64_t above = 0;

    if (!catalogue_lock(s, l->id, err))
        return false;
    for (;;) {
        CLEANUP(db_rows_done) struct db_rows rows = {0};
        if (!db_query(s,
                      "SELECT seq, labels, tags FROM image WHERE id = ?1 AND seq > ?2"
                      " ORDER BY seq LIMIT 1",
                      DB_ARGS(db_text(l->id), db_int(above)), &rows, err))
            return false;
        enum db_step step = db_step(&rows, err);
        if (step != DB_ROW)
            return step == DB_DONE;
        l->seen = true;
        above = db_column_int(&rows, 0);
        if (!apply_to(s, l, &rows, err))
            return false;
    }
}

/* ---- the stored result ---- */

/* [["golden retriever", 0.93], …] of a result's top. */
static char *labels_text(const json_t *result)
{
    const json_t *top = json_object_get(result, "top");
    json_t *out = json_array();

    for (size_t i = 0; i < json_array_size(top) && i < CATALOGUE_LABELS_MAX; i++) {
        const json_t *entry = json_array_get(top, i);
        const char *label = json_string_value(json_object_get(entry, "label"));
        if (label != NULL && strlen(label) <= CATALOGUE_TAG_MAX)
            json_array_append_new(
                out, json_pack("[s, f]", label,
                               json_number_value(json_object_get(entry, "confidence"))));
    }
    char *text = json_dumps(out, JSON_COMPACT);
    json_decref(out);
    return text;
}

static bool read_result(struct catalogue *c, const char *key, int64_t deadline_ms, json_t **ret,
                        struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(RESULT_BYTES_MAX);

    if (!store_get(c->store,
                   &(struct store_get){
                       .key = key, .max_bytes = RESULT_BYTES_MAX, .deadline_ms = deadline_ms},
                   &data, NULL, err))
        return false;
    *ret = json_read(buffer_view(&data), 0, err);
    return *ret != NULL;
}

/* Of one image; *ret is labels_done by the caller. */
static bool read_labels(struct catalogue *c, const struct object_name *name, int64_t deadline_ms,
                        struct labels *ret, struct error *err)
{
    char object[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1];
    json_t *result = NULL;

    if (!catalogue_keys(c, name, object, key, err) ||
        !read_result(c, key, deadline_ms, &result, err))
        return false;
    /* of an object that was not there, and now may be: it is labelled again */
    if (json_is_text(json_object_get(result, "source_etag"), "")) {
        json_decref(result);
        return error_set(err, ERROR_NOT_FOUND, "no result of the object yet");
    }
    const char *label = json_string_value(json_object_get(result, "label"));
    *ret = (struct labels){
        .id = name->id,
        .label = xstrdup(label != NULL ? label : ""), /* rejected */
        .confidence = json_number_value(json_object_get(result, "confidence")),
        .labels = labels_text(result),
    };
    json_decref(result);
    return true;
}

static bool learn(struct catalogue *c, const struct object_name *name, int64_t deadline_ms,
                  struct error *err)
{
    CLEANUP(labels_done) struct labels l = {0};

    return read_labels(c, name, deadline_ms, &l, err) &&
           (db_write(c->db, apply, &l, deadline_ms, err) || error_wrap(err, "catalogue"));
}

/* ---- looking ----
 *
 * A late result is rarely the only one: whoever makes them has come back. So when one is found the
 * next batch of late ones is looked at early, and so on while there are results in them. */

struct due {
    int64_t now_ms;
    bool early;
    struct {
        struct object_name name;
        int64_t age_ms;
        int64_t again_ms; /* from now on; 0: not, -1: never */
        bool seen;        /* a row that waits for a result */
    } rows[BATCH];
    size_t count;
    int64_t waiting; /* with those that are not due */
};

static bool find_due(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0}, waiting = {0};
    struct due *d = ctx;
    enum db_step step = DB_DONE;

    d->count = 0;
    if (!db_query(s,
                  "SELECT id, format, sealed, seq FROM image WHERE label_due_ms <= ?1 AND seq < ?2"
                  " ORDER BY label_due_ms LIMIT 64",
                  DB_ARGS(db_int(d->early ? INT64_MAX : d->now_ms),
                          db_int(d->early ? (d->now_ms - LATE_MS) * 1000 : INT64_MAX)),
                  &rows, err))
        return false;
    while (d->count < BATCH && (step = db_step(&rows, err)) == DB_ROW) {
        d->rows[d->count].name = catalogue_name(&rows, 0, 1, 2);
        d->rows[d->count].age_ms = d->now_ms - db_column_int(&rows, 3) / 1000;
        d->rows[d->count].again_ms = 0;
        d->count++;
    }
    if (step == DB_FAILED || d->count == 0)
        return step != DB_FAILED;
    if (!db_query(s,
                  "SELECT count(*) FROM (SELECT 1 FROM image WHERE label_due_ms IS NOT NULL"
                  " LIMIT ?1) AS waiting",
                  DB_ARGS(db_int(WAITING_MAX)), &waiting, err) ||
        db_step(&waiting, err) != DB_ROW)
        return false;
    d->waiting = db_column_int(&waiting, 0);
    return true;
}

static bool look_soon(void *now_ms, struct db_session *s, struct error *err)
{
    int64_t now = *(int64_t *)now_ms;

    return db_run(s,
                  "UPDATE image SET label_due_ms = ?1 WHERE label_due_ms > ?1"
                  " AND label_due_ms <= ?2",
                  DB_ARGS(db_int(now), db_int(now + CATALOGUE_LOOK_PUSHED_MS)), NULL, err);
}

bool catalogue_look_soon(struct catalogue *c, struct error *err)
{
    int64_t now_ms = clock_wall_ms();

    return db_write(c->db, look_soon, &now_ms, clock_monotonic_ms() + CATALOGUE_CALL_MS, err);
}

static bool postpone(void *ctx, struct db_session *s, struct error *err)
{
    struct due *d = ctx;
    bool ok = true;

    for (size_t i = 0; ok && i < d->count; i++) {
        int64_t again_ms = d->rows[i].again_ms, changed = 0;
        ok = again_ms == 0 ||
             db_run(s,
                    "UPDATE image SET label_due_ms = ?2"
                    " WHERE id = ?1 AND label_due_ms IS NOT NULL",
                    DB_ARGS(db_text(d->rows[i].name.id),
                            again_ms > 0 ? db_int(d->now_ms + again_ms) : db_text(NULL)),
                    &changed, err);
        d->rows[i].seen = changed > 0;
    }
    return ok;
}

struct announced {
    struct labels found[BATCH];
    size_t count;
    struct due missing;
};

static bool settle(void *ctx, struct db_session *s, struct error *err)
{
    struct announced *a = ctx;
    bool ok = true;

    for (size_t i = 0; i < a->count && ok; i++)
        ok = apply(&a->found[i], s, err);
    return ok && postpone(&a->missing, s, err);
}

static bool learn_batch(struct catalogue *c, struct catalogue_stored *stored, size_t count,
                        struct error *err)
{
    struct announced a = {.missing.now_ms = clock_wall_ms()};
    struct error ignored = {0}; /* it is looked for again */
    const bool *seen[BATCH];

    for (size_t i = 0; i < count; i++) {
        int64_t deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS;
        struct labels *found = &a.found[a.count];
        if (read_labels(c, &stored[i].name, deadline_ms, found, &ignored)) {
            seen[i] = &found->seen;
            a.count++;
        } else {
            seen[i] = &a.missing.rows[a.missing.count].seen;
            a.missing.rows[a.missing.count].name = stored[i].name;
            a.missing.rows[a.missing.count++].again_ms = LOOK_AGAIN_MS;
        }
    }
    bool ok = db_write(c->db, settle, &a, clock_monotonic_ms() + CATALOGUE_CALL_MS, err);
    for (size_t i = 0; i < count; i++)
        stored[i].seen = *seen[i];
    for (size_t i = 0; i < a.count; i++)
        labels_done(&a.found[i]);
    return ok;
}

bool catalogue_learn(struct catalogue *c, struct catalogue_stored *stored, size_t count,
                     struct error *err)
{
    for (size_t i = 0; i < count; i += BATCH)
        if (!learn_batch(c, &stored[i], count - i < BATCH ? count - i : BATCH, err))
            return false;
    return true;
}

static int64_t again_ms(int64_t age_ms, int64_t waiting)
{
    bool late = age_ms >= LATE_MS;
    int64_t wait_ms = waiting * (late ? LATE_SHARE_MS : YOUNG_SHARE_MS);

    if (age_ms > GIVE_UP_MS)
        return -1;
    if (late && wait_ms > age_ms / AGE_SHARE)
        wait_ms = age_ms / AGE_SHARE;
    return wait_ms > LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS;
}

/* *found: its result. An object that is not there either leaves no row: it was deleted by others,
 * or a killed process deleted it and no more. */
static bool look(struct catalogue *c, struct due *due, size_t i, bool *found, struct error *err)
{
    char object[STORE_KEY_MAX + 1], result[STORE_KEY_MAX + 1];
    const struct object_name *name = &due->rows[i].name;
    int64_t deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS, age_ms = due->rows[i].age_ms;
    struct error why = {0};

    *found = learn(c, name, deadline_ms, &why);
    if (*found)
        return true;
    due->rows[i].again_ms = again_ms(age_ms, due->waiting);
    if (!error_is_passing(why.code)) {
        if (age_ms >= LATE_MS && age_ms / 1000 % HEAD_SHARE != 0)
            return true;
        if (!catalogue_keys(c, name, object, result, err))
            return false;
        if (store_head(c->store, object, deadline_ms, NULL, &why))
            return true;
        if (why.code == ERROR_NOT_FOUND)
            return catalogue_forget_lost(c, name, deadline_ms, err);
    }
    *err = why;
    return false;
}

bool catalogue_look_for_results(struct catalogue *c, bool *more, struct error *err)
{
    struct due due = {.now_ms = clock_wall_ms(), .early = c->late_found};
    struct error ignored = {0};
    bool ok = true;

    *more = c->late_found = false;
    if (!db_read(c->db, find_due, &due, clock_monotonic_ms() + CATALOGUE_CALL_MS, err))
        return false;
    for (size_t i = 0; i < due.count && ok; i++) {
        bool found = false;
        ok = look(c, &due, i, &found, err);
        c->late_found |= found && due.rows[i].age_ms >= LATE_MS;
    }
    *more = (due.count == BATCH && !due.early) || c->late_found;
    return (due.count == 0 ||
            db_write(c->db, postpone, &due, clock_monotonic_ms() + CATALOGUE_CALL_MS,
                     ok ? err : &ignored)) &&
           ok;
}
