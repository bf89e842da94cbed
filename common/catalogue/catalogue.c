#include "catalogue/catalogue.h"

#include "base/clock.h"
#include "base/embed.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "catalogue/catalogue_internal.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum { SESSIONS = 8 };

/* The migrations, in their order. A file that was released never changes: add another. */
EMBED_FILE(catalogue_0001_images, "common/catalogue/migrations/0001_images.sql");

static const struct db_migration migrations[] = {
    {"0001_images", catalogue_0001_images},
};

bool catalogue_keys(const struct catalogue *c, const struct object_name *name,
                    char object[STORE_KEY_MAX + 1], char result[STORE_KEY_MAX + 1],
                    struct error *err)
{
    return object_key(store_prefix(c->store), name, object, STORE_KEY_MAX + 1, err) &&
           result_key(object, result, STORE_KEY_MAX + 1, err);
}

/* ---- rows ---- */

bool catalogue_lock(struct db_session *s, const char *id, struct error *err)
{
    /* not the table: whoever waits for that keeps all others out, too, beside a VACUUM say */
    return db_is_sqlite(db_of(s)) ||
           db_run(s, "SELECT pg_advisory_xact_lock(1684107891, hashtext(?1))", DB_ARGS(db_text(id)),
                  NULL, err);
}

static bool insert(struct db_session *s, const struct catalogue_upload *upload, int64_t seq,
                   int64_t label_due_ms, int64_t *changed, struct error *err)
{
    /* In a row that is there only a missing label is looked for again. None is made, or changed,
     * while the picture is being deleted: its object goes. */
    return db_run(s,
                  "INSERT INTO image (seq, id, owner, format, width, height, bytes, label_due_ms,"
                  " sealed) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 WHERE NOT EXISTS"
                  " (SELECT 1 FROM image WHERE id = ?2 AND deleted_ms > 0)"
                  " ON CONFLICT (id, owner) DO UPDATE SET label_due_ms = CASE WHEN image.label = ''"
                  " THEN excluded.label_due_ms ELSE image.label_due_ms END",
                  DB_ARGS(db_int(seq), db_text(upload->name.id), db_text(upload->owner),
                          db_text(image_format_name(upload->name.format)), db_int(upload->width),
                          db_int(upload->height), db_int((int64_t)upload->bytes),
                          db_int(label_due_ms), db_int(upload->name.sealed)),
                  changed, err);
}

struct add {
    struct catalogue *catalogue;
    const struct catalogue_upload *upload;
    int64_t changed;
};

int64_t catalogue_next_seq(struct catalogue *c)
{
    int64_t now = clock_wall_us();
    int64_t last = atomic_load(&c->last_seq);
    int64_t seq;

    do
        seq = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak(&c->last_seq, &last, seq));
    return seq;
}

/* A rebuild came between the object and its row, or made a sealed one nobody's: that has only one
 * owner. What nobody knows the owner of stays: it may be somebody else's, too. */
static bool adopt(struct db_session *s, const struct catalogue_upload *upload, struct error *err)
{
    return (!upload->created && !upload->name.sealed) || *upload->owner == '\0' ||
           db_run(s,
                  "UPDATE image SET owner = ?2 WHERE id = ?1 AND owner = '' AND deleted_ms = 0"
                  " AND NOT EXISTS"
                  " (SELECT 1 FROM image WHERE id = ?1 AND owner = ?2)",
                  DB_ARGS(db_text(upload->name.id), db_text(upload->owner)), NULL, err);
}

static bool add(void *ctx, struct db_session *s, struct error *err)
{
    struct add *a = ctx;
    struct catalogue *c = a->catalogue;
    int64_t seq = catalogue_next_seq(c); /* here, so that SQLite's commits are in this order */
    int64_t due_ms = seq / 1000 + (c->pushed ? CATALOGUE_LOOK_PUSHED_MS : CATALOGUE_LOOK_MS);

    return catalogue_lock(s, a->upload->name.id, err) && adopt(s, a->upload, err) &&
           insert(s, a->upload, seq, due_ms, &a->changed, err);
}

bool catalogue_add(struct catalogue *c, const struct catalogue_upload *upload, int64_t record_seq,
                   int64_t deadline_ms, struct error *err)
{
    struct add a = {.catalogue = c, .upload = upload};

    bool ok = db_write(c->db, add, &a, deadline_ms, err) || error_wrap(err, "catalogue");
    /* also of one that failed: no later start lists what may have been deleted since */
    catalogue_note_record(c, record_seq);
    return ok && (a.changed > 0 ||
                  error_set(err, ERROR_UNAVAILABLE, "the picture is being deleted: try again"));
}

char *catalogue_record(const struct catalogue *c, const struct catalogue_upload *upload)
{
    if (c->outbox == NULL)
        return NULL;
    json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:b}", "id", upload->name.id, "owner",
                             upload->owner, "format", image_format_name(upload->name.format),
                             "width", upload->width, "height", upload->height, "bytes",
                             (json_int_t)upload->bytes, "sealed", upload->name.sealed);
    char *text = json_dumps(json, JSON_COMPACT);

    json_decref(json);
    return text;
}

int64_t catalogue_deletions(struct catalogue *c)
{
    if (db_is_sqlite(c->db))
        return atomic_load(&c->deletions);
    return atomic_fetch_add(&c->deletions, 1); /* other instances delete, too */
}

/* ---- open and close ---- */

enum image_format catalogue_format(const char *name)
{
    for (size_t i = 0; i < OBJECT_FORMATS; i++)
        if (strcmp(image_format_name(object_formats[i]), name) == 0)
            return object_formats[i];
    return IMAGE_UNKNOWN;
}

struct object_name catalogue_name(const struct db_rows *rows, int id, int format, int sealed)
{
    struct object_name ret = {.format = catalogue_format(db_column_text(rows, format)),
                              .sealed = db_column_int(rows, sealed) != 0};

    snprintf(ret.id, sizeof(ret.id), "%s", db_column_text(rows, id));
    return ret;
}

/* A record that cannot be read is forgotten: what it was of is in the store. */
static bool replay(void *ctx, int64_t seq, const char *record, struct error *err)
{
    struct catalogue *c = ctx;
    struct catalogue_upload upload = {0};
    const char *id = "", *format = "";
    int sealed = false; /* jansson writes an int; older records have none */
    json_int_t bytes = 0;
    struct error why = {0};
    json_t *json = json_read(bytes_from_str(record), 0, &why);
    bool ok = true;

    if (json_unpack(json, "{s:s, s:s, s:s, s:i, s:i, s:I, s?:b}", "id", &id, "owner", &upload.owner,
                    "format", &format, "width", &upload.width, "height", &upload.height, "bytes",
                    &bytes, "sealed", &sealed) == 0) {
        snprintf(upload.name.id, sizeof(upload.name.id), "%s", id);
        upload.name.format = catalogue_format(format);
        upload.name.sealed = sealed != 0;
        upload.bytes = (uint64_t)bytes;
        struct add a = {.catalogue = c, .upload = &upload};
        ok = db_write(c->db, add, &a, clock_monotonic_ms() + CATALOGUE_CALL_MS, err);
    }
    json_decref(json);
    if (ok)
        catalogue_note_record(c, seq);
    return ok;
}

static bool read_last_seq(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct catalogue *c = ctx;

    if (!db_query(s, "SELECT max(seq) FROM image", DB_NO_ARGS, &rows, err) ||
        db_step(&rows, err) != DB_ROW)
        return false;
    int64_t seq = db_column_int(&rows, 0);
    if (seq > atomic_load(&c->last_seq)) /* a new file's are later than the old one's, too */
        atomic_store(&c->last_seq, seq);
    return true;
}

bool catalogue_prepare(struct catalogue *c, struct error *err)
{
    return db_migrate(c->db, "schema_migration", migrations, ARRAY_SIZE(migrations), err) &&
           /* by the writer: a reader would be one more connection to open at start */
           db_write(c->db, read_last_seq, c, clock_monotonic_ms() + CATALOGUE_CALL_MS, err) &&
           (c->outbox == NULL || outbox_records(c->outbox, replay, c, err));
}

/* For a command: a service may have the file open, and would go on with it under another name. */
void catalogue_say_damaged(struct error *err)
{
    error_wrap(err, "the file is damaged: the service replaces it when it runs");
}

/* What opening does not read may be damaged, too. */
static bool begin(struct catalogue *c, bool keep, struct error *err)
{
    struct error why = {0};

    c->db = db_open(
        &(struct db_options){
            .url = c->url, .durable = c->outbox == NULL, .sessions = SESSIONS, .derived = keep},
        err);
    if (c->db == NULL)
        return false;
    bool ok = catalogue_prepare(c, &why);
    if (!ok && keep && db_is_damaged(c->db)) {
        why = (struct error){0};
        ok = db_set_aside(c->db, &why) && catalogue_prepare(c, &why);
    }
    if (!ok)
        *err = why;
    if (!ok && !keep && db_is_damaged(c->db))
        catalogue_say_damaged(err);
    return ok && (!keep || catalogue_keeper_start(c, err));
}

struct catalogue *catalogue_open(const struct catalogue_options *options, struct error *err)
{
    struct catalogue *c = xcalloc(1, sizeof(*c));

    c->url = xstrdup(options->url);
    c->store = options->store;
    c->had_account = options->had_account;
    c->had_account_ctx = options->had_account_ctx;
    c->pushed = options->outbox != NULL;
    c->outbox = db_url_is_sqlite(options->url) ? options->outbox : NULL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->replaced, NULL);
    if (begin(c, options->keep, err))
        return c;
    if (err->code != ERROR_CONFIG)
        err->code = ERROR_UNAVAILABLE;
    catalogue_close(c);
    return NULL;
}

void catalogue_close(struct catalogue *c)
{
    if (c == NULL)
        return;
    catalogue_keeper_stop(c);
    db_close(c->db);
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->replaced);
    pthread_mutex_destroy(&c->lock);
    free(c->records);
    for (size_t i = 0; i < c->view_count; i++)
        free(c->views[i].viewer);
    free(c->views);
    free(c->stored);
    free(c->url);
    free(c);
}
