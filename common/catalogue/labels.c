/* What is on a picture, from the result that classify_service stored beside it: read when a push's
 * reply says that it is there, and looked for when nothing does. */
#include "base/clock.h"
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum {
    LOOK_CLOSELY_MS = 60000,
    AGE_SHARE = 16, /* an older picture is looked at again after this part of its age */
    GIVE_UP_MS = 7 * 24 * 3600 * 1000,
    BATCH = 64,
};

struct labels {
    const char *id;
    const char *label; /* "": there is none, and will be none */
    double confidence;
    char *labels; /* the column's text */
};

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

bool catalogue_learn(struct catalogue *c, const struct object_name *name, int64_t deadline_ms,
                     struct error *err)
{
    char object[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1];
    json_t *result = NULL;

    if (!catalogue_keys(c, name, object, key, err) ||
        !read_result(c, key, deadline_ms, &result, err))
        return false;
    const char *label = json_string_value(json_object_get(result, "label"));
    struct labels l = {
        .id = name->id,
        .label = label != NULL ? label : "", /* rejected */
        .confidence = json_number_value(json_object_get(result, "confidence")),
        .labels = labels_text(result),
    };
    bool ok = db_write(c->db, apply, &l, deadline_ms, err) || error_wrap(err, "catalogue");
    free(l.labels);
    json_decref(result);
    return ok;
}

/* ---- looking ---- */

struct due {
    int64_t now_ms;
    struct {
        struct object_name name;
        int64_t age_ms;
    } rows[BATCH];
    size_t count;
};

static bool find_due(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct due *d = ctx;
    enum db_step step = DB_DONE;

    d->count = 0;
    if (!db_query(s,
                  "SELECT id, format, sealed, seq FROM image WHERE label_due_ms <= ?1"
                  " ORDER BY label_due_ms LIMIT 64",
                  DB_ARGS(db_int(d->now_ms)), &rows, err))
        return false;
    while (d->count < BATCH && (step = db_step(&rows, err)) == DB_ROW) {
        d->rows[d->count].name = catalogue_name(&rows, 0, 1, 2);
        d->rows[d->count].age_ms = d->now_ms - db_column_int(&rows, 3) / 1000;
        d->count++;
    }
    return step != DB_FAILED;
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

struct postpone {
    const char *id;
    struct db_value due_ms;
};

static bool postpone(void *ctx, struct db_session *s, struct error *err)
{
    struct postpone *p = ctx;

    return db_run(s,
                  "UPDATE image SET label_due_ms = ?2 WHERE id = ?1 AND label_due_ms IS NOT NULL",
                  DB_ARGS(db_text(p->id), p->due_ms), NULL, err);
}

/* Not there yet. An object that is not there either leaves no row: it was deleted by others, or a
 * killed process deleted it and no more. */
static bool look_later(struct catalogue *c, const struct object_name *name, int64_t age_ms,
                       struct error *err)
{
    char object[STORE_KEY_MAX + 1], result[STORE_KEY_MAX + 1];
    int64_t deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS;
    int64_t wait_ms = age_ms < LOOK_CLOSELY_MS ? CATALOGUE_LOOK_MS : age_ms / AGE_SHARE;
    struct postpone p = {.id = name->id, .due_ms = db_int(clock_wall_ms() + wait_ms)};
    struct error why = {0};

    if (!catalogue_keys(c, name, object, result, err))
        return false;
    if (!store_head(c->store, object, deadline_ms, NULL, &why)) {
        if (why.code == ERROR_NOT_FOUND)
            return catalogue_forget(c, name->id, deadline_ms, err);
        *err = why;
        return false;
    }
    if (age_ms > GIVE_UP_MS)
        p.due_ms = db_text(NULL);
    return db_write(c->db, postpone, &p, deadline_ms, err);
}

bool catalogue_look_for_results(struct catalogue *c, bool *more, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS;
    struct due due = {.now_ms = clock_wall_ms()};

    *more = false;
    if (!db_read(c->db, find_due, &due, deadline_ms, err))
        return false;
    for (size_t i = 0; i < due.count; i++) {
        struct error why = {0};
        if (catalogue_learn(c, &due.rows[i].name, deadline_ms, &why))
            continue;
        if (error_is_passing(why.code)) {
            *err = why;
            return false;
        }
        if (!look_later(c, &due.rows[i].name, due.rows[i].age_ms, err))
            return false;
    }
    *more = due.count == BATCH;
    return true;
}
