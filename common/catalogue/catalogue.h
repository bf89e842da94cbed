/* The catalogue: what was uploaded, by whom, what is on it, how often it was seen. Derived data:
 * catalogue_rebuild makes it anew from the store, except tags, notes, views, and the owners of what
 * is not sealed.
 *
 * With an outbox and SQLite a row is durable by the outbox's commit (event->record), and reaches
 * the catalogue's own disk within a second, together with others. Otherwise by its own commit.
 *
 * Thread-safe. Errors of every call: ERROR_UNAVAILABLE, ERROR_DEADLINE, and what is named below. */
#pragma once

#include "base/json.h"
#include "events/outbox/outbox.h"
#include "objects/object_name.h"
#include "store/store.h"

struct catalogue;

enum {
    CATALOGUE_LIMIT = 50, /* of a page, when none is asked for */
    CATALOGUE_LIMIT_MAX = 200,
    CATALOGUE_TAGS_MAX = 64,
    CATALOGUE_TAG_MAX = 128, /* bytes */
    CATALOGUE_NOTE_MAX = 4096,
};

struct catalogue_options {
    const char *url;       /* see db.h */
    struct store *store;   /* borrowed */
    struct outbox *outbox; /* borrowed; NULL: there is none */
    bool keep;             /* run the thread that looks after it; false: for one command */
    /* Whether `name` had an account at that time (wall clock), for a rebuild; NULL: any had. */
    bool (*had_account)(void *ctx, const char *name, int64_t at_ms, bool *ret, struct error *err);
    void *had_account_ctx;
};

/* Open or create, migrate, take over what the outbox kept. A damaged SQLite file, also one that is
 * found later, is set aside as <path>.corrupt-<time>, and a new one filled from the store.
 * ERROR_CONFIG: a newer version's. */
struct catalogue *catalogue_open(const struct catalogue_options *options,
                                 struct error *err) NODISCARD;
void catalogue_close(struct catalogue *catalogue);

struct catalogue_upload {
    struct object_name name;
    const char *owner; /* or "" */
    int width, height;
    uint64_t bytes;
    /* It stored the object. Then, or if it is sealed, a row of nobody's is this one, by a rebuild.
     */
    bool created;
};

/* The text for event->record, on the heap; NULL: none is needed. */
char *catalogue_record(const struct catalogue *catalogue, const struct catalogue_upload *upload);
/* Listed when true is returned; record_seq: where its record is, 0 without one. The same upload
 * again keeps its place and what is known of it. ERROR_UNAVAILABLE also: it is being deleted. */
bool catalogue_add(struct catalogue *catalogue, const struct catalogue_upload *upload,
                   int64_t record_seq, int64_t deadline_ms, struct error *err) NODISCARD;

/* Changes whenever an object may have been deleted. Call it before storing an object and after
 * listing it: if the numbers differ, look whether the object is still there. */
int64_t catalogue_deletions(struct catalogue *catalogue);

struct catalogue_filter {
    const char *label, *tag, *owner; /* NULL: any */
    const char *viewer;              /* who sees his own sealed pictures, and nobody else's */
    int64_t before;                  /* a cursor; 0: from the newest */
    int limit;                       /* 1 to CATALOGUE_LIMIT_MAX */
};

/* A page, newest first. *images: a JSON array, the caller's; *next: the cursor behind it, 0 at the
 * end. What is added meanwhile comes before the first page: nothing is skipped or repeated. */
bool catalogue_list(struct catalogue *catalogue, const struct catalogue_filter *filter,
                    json_t **images, int64_t *next, int64_t deadline_ms,
                    struct error *err) NODISCARD;
/* One picture, the viewer's own if several have it. `id` may be the beginning of one, of digits
 * enough to be nobody else's. Another's sealed one is ERROR_NOT_FOUND, unless
 * `viewer` is NULL. */
bool catalogue_find(struct catalogue *catalogue, const char *id, const char *viewer, json_t **ret,
                    int64_t deadline_ms, struct error *err) NODISCARD;

struct catalogue_change {
    const char *note; /* NULL: as it is */
    json_t *tags;     /* an array of strings, borrowed; NULL: as they are */
};
/* ERROR_BAD_REQUEST: over a limit above, or a tag is empty. ERROR_NOT_FOUND: `owner` has no such
 * picture. */
bool catalogue_change(struct catalogue *catalogue, const char *id, const char *owner,
                      const struct catalogue_change *change, int64_t deadline_ms,
                      struct error *err) NODISCARD;

/* Object, result and row of that owner; another owner's row keeps object and result.
 * ERROR_NOT_FOUND. Once it was begun it is finished, at the latest after the next start. */
bool catalogue_delete(struct catalogue *catalogue, const char *id, const char *owner,
                      int64_t deadline_ms, struct error *err) NODISCARD;
enum catalogue_state { CATALOGUE_NO_ROW, CATALOGUE_LISTED, CATALOGUE_BEING_DELETED };
bool catalogue_state(struct catalogue *catalogue, const char *id, enum catalogue_state *ret,
                     int64_t deadline_ms, struct error *err) NODISCARD;
/* For who writes the object of a listed picture again: if it was deleted meanwhile, object and
 * result are deleted once more. */
bool catalogue_delete_unlisted(struct catalogue *catalogue, const struct object_name *name,
                               int64_t deadline_ms, struct error *err) NODISCARD;
/* Around the deletion of a picture's object by someone else than catalogue_delete: its rows are
 * hidden, durably, and no upload of it is listed. At the end they go, or, if the object was not
 * deleted, come back. If the end never comes, the catalogue deletes the object and its rows. */
bool catalogue_begin_deletion(struct catalogue *catalogue, const struct object_name *name,
                              int64_t deadline_ms, struct error *err) NODISCARD;
bool catalogue_end_deletion(struct catalogue *catalogue, const char *id, bool deleted,
                            int64_t deadline_ms, struct error *err) NODISCARD;

/* A result was stored: its labels are read within a moment, by the catalogue's own thread, together
 * with those of others. */
void catalogue_result_stored(struct catalogue *catalogue, const struct object_name *name);

/* One more view, by `viewer` ("": who knows), whose own pictures do not count it; written with
 * others within a second. */
void catalogue_viewed(struct catalogue *catalogue, const char *id, const char *viewer);

/* How many rows the outbox still keeps for the catalogue; 0 without an outbox. */
int64_t catalogue_pending(struct catalogue *catalogue);

struct catalogue_rebuilt {
    int64_t added, removed;
};
/* Add what the store has and the catalogue does not; remove rows without an object. Beside a
 * running service, too. What is sealed is its owner's again, if his account is as old: a name that
 * was given anew, after the accounts were lost, does not open what another had. */
bool catalogue_rebuild(struct catalogue *catalogue, struct catalogue_rebuilt *ret,
                       struct error *err) NODISCARD;
