#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"

#include <string.h>

struct change {
    const char *id, *owner;
    const char *note;
    char *tags; /* the column's text; NULL: as they are */
    bool found;
};

static bool apply(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct change *c = ctx;

    c->found = false;
    if (!catalogue_lock(s, c->id, err) ||
        !db_query(s,
                  "SELECT seq, labels, tags, note FROM image"
                  " WHERE id = ?1 AND owner = ?2 AND deleted_ms = 0",
                  DB_ARGS(db_text(c->id), db_text(c->owner)), &rows, err))
        return false;
    enum db_step step = db_step(&rows, err);
    if (step != DB_ROW)
        return step == DB_DONE;
    c->found = true;
    int64_t seq = db_column_int(&rows, 0);
    const char *labels = db_column_text(&rows, 1), *tags = db_column_text(&rows, 2);
    const char *after = c->tags != NULL ? c->tags : tags;
    return (c->tags == NULL || catalogue_tags_replace(s, seq, (const char *const[]){labels, tags},
                                                      (const char *const[]){labels, after}, err)) &&
           db_run(s, "UPDATE image SET tags = ?2, note = ?3 WHERE seq = ?1",
                  DB_ARGS(db_int(seq), db_text(after),
                          db_text(c->note != NULL ? c->note : db_column_text(&rows, 3))),
                  NULL, err);
}

static bool check_tags(const json_t *tags, struct error *err)
{
    if (!json_is_array(tags) || json_array_size(tags) > CATALOGUE_TAGS_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "tags: must be an array of at most %d strings",
                         CATALOGUE_TAGS_MAX);
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const json_t *tag = json_array_get(tags, i);
        size_t len = json_string_length(tag);
        if (len == 0 || len > CATALOGUE_TAG_MAX || strlen(json_string_value(tag)) != len)
            return error_set(err, ERROR_BAD_REQUEST, "tags: each must be a text of 1 to %d bytes",
                             CATALOGUE_TAG_MAX);
    }
    return true;
}

bool catalogue_change(struct catalogue *c, const char *id, const char *owner,
                      const struct catalogue_change *change, int64_t deadline_ms, struct error *err)
{
    struct change work = {.id = id, .owner = owner, .note = change->note};

    if (change->note != NULL && strlen(change->note) > CATALOGUE_NOTE_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "note: must be at most %d bytes",
                         CATALOGUE_NOTE_MAX);
    if (change->tags != NULL && !check_tags(change->tags, err))
        return false;
    if (change->tags != NULL)
        work.tags = json_dumps(change->tags, JSON_COMPACT);
    bool ok = db_write(c->db, apply, &work, deadline_ms, err) || error_wrap(err, "catalogue");
    free(work.tags);
    return ok && (work.found || error_set(err, ERROR_NOT_FOUND, "no such image"));
}
