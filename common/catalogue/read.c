#include "base/clock.h"
#include "catalogue/catalogue.h"
#include "catalogue/catalogue_internal.h"
#include "objects/object_name.h"

#include <string.h>

/* In the order of `enum column`. */
#define COLUMNS                                                                                    \
    "i.seq, i.id, i.owner, i.format, i.width, i.height, i.bytes, i.sealed, i.label, i.confidence," \
    " i.labels, i.tags, i.note, i.views"
enum column {
    SEQ,
    ID,
    OWNER,
    FORMAT,
    WIDTH,
    HEIGHT,
    BYTES,
    SEALED,
    LABEL,
    CONFIDENCE,
    LABELS,
    TAGS,
    NOTE,
    VIEWS
};

static json_t *uri_of(const struct catalogue *c, const struct object_name *name)
{
    char key[STORE_KEY_MAX + 1], uri[STORE_URI_MAX];
    struct error ignored = {0};

    return object_key(store_prefix(c->store), name, key, sizeof(key), &ignored) &&
                   store_uri(c->store, key, uri, &ignored)
               ? json_string(uri)
               : json_null();
}

static json_t *image_json(const struct catalogue *c, const struct db_rows *rows)
{
    char created[CLOCK_RFC3339_LEN];
    const struct object_name name = catalogue_name(rows, ID, FORMAT, SEALED);
    const char *owner = db_column_text(rows, OWNER), *label = db_column_text(rows, LABEL);
    bool labelled = *label != '\0';

    clock_rfc3339(db_column_int(rows, SEQ) / 1000, created);
    return json_pack(
        "{s:s, s:o, s:o, s:o, s:o, s:o, s:s, s:I, s:I, s:s, s:I, s:I, s:b, s:s}", "id", name.id,
        "gcs_path", uri_of(c, &name), "owner", *owner != '\0' ? json_string(owner) : json_null(),
        "label", labelled ? json_string(label) : json_null(), "confidence",
        labelled ? json_real(db_column_real(rows, CONFIDENCE)) : json_null(), "tags",
        catalogue_tags_json(db_column_text(rows, LABELS), db_column_text(rows, TAGS)), "note",
        db_column_text(rows, NOTE), "width", (json_int_t)db_column_int(rows, WIDTH), "height",
        (json_int_t)db_column_int(rows, HEIGHT), "format", image_format_name(name.format), "bytes",
        (json_int_t)db_column_int(rows, BYTES), "views", (json_int_t)db_column_int(rows, VIEWS),
        "sealed", name.sealed, "created_at", created);
}

/* ---- a page ---- */

struct list {
    struct catalogue *catalogue;
    const struct catalogue_filter *filter;
    json_t *images;
    int64_t next;
};

enum { FILTER_SQL_MAX = 1024 };

/* A tag's rows come from its own index; the other filters' terms have the words of their partial
 * indexes in them. ORDER BY is the index's order in each case: nothing is sorted. */
static size_t build(const struct catalogue_filter *f, char sql[FILTER_SQL_MAX],
                    struct db_value args[6])
{
    bool by_tag = f->tag != NULL;
    const char *seq = by_tag ? "t.seq" : "i.seq";
    size_t n = 3;
    int len = snprintf(sql, FILTER_SQL_MAX,
                       "SELECT " COLUMNS " FROM %s WHERE %s < ?1 AND i.deleted_ms = 0"
                       " AND (i.sealed = 0 OR i.owner = ?3)",
                       by_tag ? "image_tag t JOIN image i ON i.seq = t.seq" : "image i", seq);

    args[0] = db_int(f->before > 0 ? f->before : INT64_MAX);
    args[1] = db_int(f->limit + 1);
    args[2] = db_text(f->viewer != NULL ? f->viewer : "");
    const struct {
        const char *value, *column, *index;
    } terms[] = {{f->tag, "t.tag", ""},
                 {f->label, "i.label", " AND i.label <> ''"},
                 {f->owner, "i.owner", " AND i.owner <> ''"}};
    for (size_t i = 0; i < ARRAY_SIZE(terms); i++)
        if (terms[i].value != NULL) {
            args[n++] = db_text(terms[i].value);
            len += snprintf(sql + len, FILTER_SQL_MAX - (size_t)len, " AND %s = ?%zu%s",
                            terms[i].column, n, terms[i].index);
        }
    snprintf(sql + len, FILTER_SQL_MAX - (size_t)len, " ORDER BY %s DESC LIMIT ?2", seq);
    return n;
}

static bool list(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct list *l = ctx;
    struct db_value args[6];
    char sql[FILTER_SQL_MAX];
    size_t n = build(l->filter, sql, args);
    enum db_step step;
    int64_t last = 0;

    json_array_clear(l->images);
    l->next = 0;
    if (!db_query(s, sql, args, n, &rows, err))
        return false;
    while ((step = db_step(&rows, err)) == DB_ROW) {
        if (json_array_size(l->images) == (size_t)l->filter->limit) {
            l->next = last; /* there is one more */
            return true;
        }
        last = db_column_int(&rows, SEQ);
        json_array_append_new(l->images, image_json(l->catalogue, &rows));
    }
    return step == DB_DONE;
}

bool catalogue_list(struct catalogue *c, const struct catalogue_filter *filter, json_t **images,
                    int64_t *next, int64_t deadline_ms, struct error *err)
{
    struct list l = {.catalogue = c, .filter = filter, .images = json_array()};

    if (!db_read(c->db, list, &l, deadline_ms, err)) {
        json_decref(l.images);
        return error_wrap(err, "catalogue");
    }
    *images = l.images;
    *next = l.next;
    return true;
}

/* ---- one ---- */

struct find {
    struct catalogue *catalogue;
    const char *id, *viewer;
    json_t *image;
};

static bool find(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct find *f = ctx;

    if (!db_query(s,
                  "SELECT " COLUMNS " FROM image i WHERE i.id = ?1 AND i.deleted_ms = 0"
                  " AND (i.sealed = 0 OR i.owner = ?2 OR ?3 = 1)"
                  " ORDER BY CASE WHEN i.owner = ?2 THEN 0 ELSE 1 END, i.seq LIMIT 1",
                  DB_ARGS(db_text(f->id), db_text(f->viewer != NULL ? f->viewer : ""),
                          db_int(f->viewer == NULL)),
                  &rows, err))
        return false;
    enum db_step step = db_step(&rows, err);
    if (step == DB_ROW)
        f->image = image_json(f->catalogue, &rows);
    return step != DB_FAILED;
}

bool catalogue_find(struct catalogue *c, const char *id, const char *viewer, json_t **ret,
                    int64_t deadline_ms, struct error *err)
{
    struct find f = {.catalogue = c, .id = id, .viewer = viewer};

    if (!db_read(c->db, find, &f, deadline_ms, err))
        return error_wrap(err, "catalogue");
    *ret = f.image;
    return f.image != NULL || error_set(err, ERROR_NOT_FOUND, "no such image");
}
