/* The images' part anew from the store. Rows are numbered by their objects' time, so that the order
 * is that of the uploads. Beside it pictures may be added and deleted. */
#include "base/clock.h"
#include "base/log.h"
#include "base/xmalloc.h"
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum {
    BATCH = 64,
    WALK_MS = 6 * 3600 * 1000,
    SEQ_TRIES = 64, /* objects of the same millisecond have numbers beside each other */
};

struct candidate {
    struct object_name name;
    char key[STORE_KEY_MAX + 1];
    char owner[STORE_OWNER_MAX + 1];
    bool known;
    struct store_info info;
    int width, height;
};

struct rebuild {
    struct catalogue *catalogue;
    struct candidate batch[BATCH];
    size_t count;
    int64_t added, removed;
    int64_t inserted; /* of this batch */
    int64_t began_ms;
    int64_t below; /* rows, page by page */
    int file;      /* by db_replaced */
    bool failed;
    struct error err;
};

/* ---- what the store has ---- */

static bool find_known(void *ctx, struct db_session *s, struct error *err)
{
    struct rebuild *r = ctx;

    for (size_t i = 0; i < r->count; i++) {
        CLEANUP(db_rows_done) struct db_rows rows = {0};
        if (!db_query(s, "SELECT 1 FROM image WHERE id = ?1 LIMIT 1",
                      DB_ARGS(db_text(r->batch[i].name.id)), &rows, err))
            return false;
        enum db_step step = db_step(&rows, err);
        if (step == DB_FAILED)
            return false;
        r->batch[i].known = step == DB_ROW;
    }
    return true;
}

/* "": nobody's, or of a name that had no account when it was stored. */
static bool find_owner(struct catalogue *c, struct candidate *object, struct error *err)
{
    struct store_info info;
    bool known = true;

    object->owner[0] = '\0';
    if (!object->name.sealed)
        return true;
    if (!store_head(c->store, object->key, clock_monotonic_ms() + CATALOGUE_CALL_MS, &info, err) ||
        (info.owner[0] != '\0' && c->had_account != NULL &&
         !c->had_account(c->had_account_ctx, info.owner, info.modified_ms, &known, err)))
        return false;
    if (known)
        snprintf(object->owner, sizeof(object->owner), "%s", info.owner);
    return true;
}

/* What vanished meanwhile, and what is damaged, counts as known. */
static bool examine(struct catalogue *c, struct candidate *object, struct error *err)
{
    CLEANUP(buffer_done) struct buffer head = BUFFER_MAX(DIMENSIONS_BYTES);
    struct error why = {0};

    if (!store_get(c->store,
                   &(struct store_get){.key = object->key,
                                       .length = DIMENSIONS_BYTES,
                                       .max_bytes = DIMENSIONS_BYTES,
                                       .deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS},
                   &head, &object->info, &why) ||
        !find_owner(c, object, &why)) {
        object->known = why.code == ERROR_NOT_FOUND || why.code == ERROR_RANGE;
        if (why.code == ERROR_INTERNAL) {
            log_error("a stored object cannot be listed", F("key", (const char *)object->key),
                      F("error", (const char *)why.message));
            object->known = true;
        }
        if (!object->known)
            *err = why;
        return object->known;
    }
    if (!dimensions_read(buffer_view(&head), object->name.format, &object->width, &object->height))
        object->width = object->height = 0;
    return true;
}

static bool insert_batch(void *ctx, struct db_session *s, struct error *err)
{
    struct rebuild *r = ctx;
    int64_t now_ms = clock_wall_ms();

    r->inserted = 0; /* it may run again */
    for (size_t i = 0; i < r->count; i++) {
        const struct candidate *object = &r->batch[i];
        if (!object->known && !catalogue_lock(s, object->name.id, err))
            return false;
        int64_t seq = object->info.modified_ms * 1000 + object->name.id[0];
        int64_t changed = 0;
        for (int try = 0; !object->known && changed == 0 && try < SEQ_TRIES; try++)
            if (!db_run(s,
                        "INSERT INTO image (seq, id, owner, format, width, height, bytes,"
                        " label_due_ms, sealed) SELECT ?1, ?2, ?9, ?3, ?4, ?5, ?6, ?7, ?8"
                        " WHERE NOT EXISTS (SELECT 1 FROM image WHERE id = ?2)"
                        " ON CONFLICT DO NOTHING",
                        DB_ARGS(db_int(seq + try), db_text(object->name.id),
                                db_text(image_format_name(object->name.format)),
                                db_int(object->width), db_int(object->height),
                                db_int((int64_t)object->info.size), db_int(now_ms),
                                db_int(object->name.sealed), db_text(object->owner)),
                        &changed, err))
                return false;
        r->inserted += changed;
    }
    return true;
}

static bool take_batch(struct rebuild *r, struct error *err)
{
    struct catalogue *c = r->catalogue;

    if (r->count == 0)
        return true;
    if (!db_read(c->db, find_known, r, clock_monotonic_ms() + CATALOGUE_CALL_MS, err))
        return false;
    for (size_t i = 0; i < r->count; i++)
        if (!r->batch[i].known && !examine(c, &r->batch[i], err))
            return false;
    if (!db_write(c->db, insert_batch, r, clock_monotonic_ms() + CATALOGUE_CALL_MS, err))
        return false;
    r->added += r->inserted;
    r->count = 0;
    return true;
}

static bool is_stopping(struct catalogue *c)
{
    pthread_mutex_lock(&c->lock);
    bool stopping = c->stopping;
    pthread_mutex_unlock(&c->lock);
    return stopping;
}

static bool visit(void *ctx, const char *key, uint64_t size)
{
    struct rebuild *r = ctx;
    const char *prefix = store_prefix(r->catalogue->store);
    struct candidate *next = &r->batch[r->count];

    if (!string_starts_with(key, prefix) || key_kind_of(key + strlen(prefix)) != KEY_OBJECT ||
        !object_name_parse(key + strlen(prefix), &next->name))
        return true;
    (void)size;
    snprintf(next->key, sizeof(next->key), "%s", key);
    if (++r->count == BATCH)
        r->failed = !take_batch(r, &r->err);
    if (is_stopping(r->catalogue))
        r->failed =
            !error_set(&r->err, ERROR_SHUTTING_DOWN, "rebuilding goes on at the next start");
    return !r->failed;
}

/* ---- what the store has no more ---- */

static bool read_page(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct rebuild *r = ctx;
    enum db_step step = DB_DONE;

    r->count = 0;
    if (!db_query(
            s,
            "SELECT seq, id, format, sealed FROM image WHERE seq < ?1 ORDER BY seq DESC LIMIT 64",
            DB_ARGS(db_int(r->below)), &rows, err))
        return false;
    while (r->count < BATCH && (step = db_step(&rows, err)) == DB_ROW) {
        struct candidate *row = &r->batch[r->count++];
        r->below = db_column_int(&rows, 0);
        row->name = catalogue_name(&rows, 1, 2, 3);
    }
    return step != DB_FAILED;
}

static bool remove_lost(struct rebuild *r, struct error *err)
{
    struct catalogue *c = r->catalogue;
    char object[STORE_KEY_MAX + 1], result[STORE_KEY_MAX + 1];

    r->below = r->began_ms * 1000;
    do {
        if (is_stopping(c))
            return error_set(err, ERROR_SHUTTING_DOWN, "rebuilding goes on at the next start");
        if (!db_read(c->db, read_page, r, clock_monotonic_ms() + CATALOGUE_CALL_MS, err))
            return false;
        for (size_t i = 0; i < r->count; i++) {
            int64_t deadline_ms = clock_monotonic_ms() + CATALOGUE_CALL_MS;
            struct error why = {0};
            const struct object_name *name = &r->batch[i].name;
            if (!catalogue_keys(c, name, object, result, err))
                return false;
            if (store_head(c->store, object, deadline_ms, NULL, &why))
                continue;
            if (why.code != ERROR_NOT_FOUND) {
                *err = why;
                return false;
            }
            if (!catalogue_forget_lost(c, name, deadline_ms, err))
                return false;
            r->removed++;
        }
    } while (r->count == BATCH);
    return true;
}

static bool done(void *ctx, struct db_session *s, struct error *err)
{
    const struct rebuild *r = ctx;

    if (r->file != db_replaced(r->catalogue->db))
        return error_set(err, ERROR_UNAVAILABLE, "the catalogue's file was replaced meanwhile");
    return db_run(s, "UPDATE catalogue_meta SET value = 0 WHERE name = 'rebuild'", DB_NO_ARGS, NULL,
                  err);
}

bool catalogue_rebuild(struct catalogue *c, struct catalogue_rebuilt *ret, struct error *err)
{
    struct rebuild *r = xcalloc(1, sizeof(*r));
    bool ok = false;

    r->catalogue = c;
    r->file = db_replaced(c->db);
    r->began_ms = clock_wall_ms();
    if (!store_list(c->store, store_prefix(c->store), clock_monotonic_ms() + WALK_MS, visit, r,
                    &r->err) ||
        r->failed)
        *err = r->err;
    else
        ok = take_batch(r, err) && remove_lost(r, err) &&
             db_write(c->db, done, r, clock_monotonic_ms() + CATALOGUE_CALL_MS, err);
    bool more = !c->running; /* else the keeper reads the results */
    while (ok && more)
        ok = catalogue_look_for_results(c, &more, err);
    *ret = (struct catalogue_rebuilt){.added = r->added, .removed = r->removed};
    free(r);
    if (!ok && !c->running && db_is_damaged(c->db))
        catalogue_say_damaged(err);
    return ok;
}
