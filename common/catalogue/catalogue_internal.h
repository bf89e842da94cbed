/* The catalogue's state, shared by its files. */
#pragma once

#include "base/bytes.h"
#include "base/json.h"
#include "db/db.h"
#include "events/outbox/outbox.h"
#include "image/image.h"
#include "objects/object_name.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    CATALOGUE_CALL_MS = 30000, /* of what nobody waits for */
    CATALOGUE_LABELS_MAX = 5,  /* of a result's top */
    CATALOGUE_LOOK_MS = 400,   /* for results that nothing announces */
    /* for those that a push's reply announces long before, unless it is lost */
    CATALOGUE_LOOK_PUSHED_MS = 60000,
};

struct catalogue_upload;

struct catalogue_view {
    char id[SHA256_HEX_LEN + 1];
    char *viewer; /* NULL: nobody */
};

/* An image whose result was announced. */
struct catalogue_stored {
    struct object_name name;
    int64_t until_ms; /* its row is waited for: the event may be delivered before the row is made */
    bool seen;        /* the row is there */
};

struct catalogue {
    char *url;
    struct store *store;
    struct outbox *outbox; /* NULL: none, or rows are durable by themselves */
    bool (*had_account)(void *ctx, const char *name, int64_t at_ms, bool *ret, struct error *err);
    void *had_account_ctx;
    bool pushed; /* results are announced by the push's reply */
    struct db *db;
    _Atomic int64_t last_seq;  /* of the rows made here */
    _Atomic int64_t deletions; /* of objects, each counted before its row goes */
    _Atomic int64_t synced;    /* db_commits of what is on the disk for sure */

    pthread_mutex_t lock; /* all that follows */
    pthread_cond_t wake;
    pthread_cond_t replaced; /* the damaged file */
    int prepared;            /* which file has its tables, by db_replaced; the keeper's */
    bool stopping, running, filling;
    pthread_t keeper;
    int64_t *records; /* of rows that are in the database, not on the disk for sure */
    size_t record_count, record_room;
    struct catalogue_view *views;
    size_t view_count, view_room;
    struct catalogue_stored *stored; /* whose results are to be read */
    size_t stored_count, stored_room;
    int64_t stored_due_ms; /* when */
    pthread_t filler;      /* fills a new file from the store */

    bool late_found; /* labels.c's; of the one thread that looks */
};

/* ---- catalogue.c */
/* Say what a command cannot mend. */
void catalogue_say_damaged(struct error *err);
/* A new database, or the one that was here: tables, and what the outbox kept. */
bool catalogue_prepare(struct catalogue *c, struct error *err) NODISCARD;
/* At the beginning of a transaction that writes what depends on a picture's rows: two at the same
 * time would not see each other's. SQLite has one writer; PostgreSQL's wait here. */
bool catalogue_lock(struct db_session *s, const char *id, struct error *err) NODISCARD;
/* A number for a row: later than all before it, whatever the clock does. Another instance may have
 * the same: then the transaction is tried again, with the next. */
int64_t catalogue_next_seq(struct catalogue *c);
/* Of the columns id, format and sealed. */
struct object_name catalogue_name(const struct db_rows *rows, int id, int format, int sealed);
/* IMAGE_UNKNOWN: no such format. */
enum image_format catalogue_format(const char *name);
/* The key of an image's object, and of its result. */
bool catalogue_keys(const struct catalogue *c, const struct object_name *name,
                    char object[STORE_KEY_MAX + 1], char result[STORE_KEY_MAX + 1],
                    struct error *err) NODISCARD;

/* ---- dimensions.c */
/* Width and height from the first bytes of a picture that this program wrote, without any codec. */
enum { DIMENSIONS_BYTES = 4096 }; /* so many are enough: no metadata is in our pictures */

/* False when they are not there. */
bool dimensions_read(struct bytes head, enum image_format format, int *width, int *height);

/* ---- labels.c */
/* Look for results that are due. *more: there are others. */
bool catalogue_look_for_results(struct catalogue *c, bool *more, struct error *err) NODISCARD;
/* Those that a push's reply would have announced to a process that was killed are due now. */
bool catalogue_look_soon(struct catalogue *c, struct error *err) NODISCARD;

/* Read the announced results of these images into their rows, many in one transaction, and note
 * whose rows were there. What cannot be read is looked for again. */
bool catalogue_learn(struct catalogue *c, struct catalogue_stored *stored, size_t count,
                     struct error *err) NODISCARD;

/* ---- tags.c */
/* Make the searchable tags of a row those of `labels` and `tags` (the texts of its columns). */
bool catalogue_tags_replace(struct db_session *s, int64_t seq, const char *const before[2],
                            const char *const after[2], struct error *err) NODISCARD;
/* [{"tag", "confidence"}, …] for a reply. */
json_t *catalogue_tags_json(const char *labels, const char *tags);

/* ---- delete.c */
/* The object was not found: its rows go, unless it is there by now. */
bool catalogue_forget_lost(struct catalogue *c, const struct object_name *name, int64_t deadline_ms,
                           struct error *err) NODISCARD;
/* What a killed process left behind. */
bool catalogue_finish_deletions(struct catalogue *c, struct error *err) NODISCARD;

/* ---- keeper.c */
bool catalogue_keeper_start(struct catalogue *c, struct error *err) NODISCARD;
void catalogue_keeper_stop(struct catalogue *c);
/* All that was committed, and the views, onto the disk; the outbox forgets its records of rows. */
bool catalogue_flush(struct catalogue *c, struct error *err) NODISCARD;
void catalogue_note_record(struct catalogue *c, int64_t record_seq);
