#include "retention.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum {
    FIRST_MS = 1000, /* start-up is not disturbed */
    EVERY_MS = 3600000,
    WALK_TIMEOUT_MS = EVERY_MS,
    PAUSE_MS = 1, /* between objects: requests come first */
    CALL_TIMEOUT_MS = 30000,
};
#define DAY_MS (24 * 3600 * INT64_C(1000))

struct retention {
    struct store *store;
    struct catalogue *catalogue; /* may be NULL */
    int64_t max_age_ms;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stopping;
};

struct walk {
    struct retention *retention;
    int64_t before_ms; /* wall clock: what was modified earlier is deleted */
    int64_t deleted, failed;
    struct error err; /* of the last failure */
};

/* False when it is time to stop. */
static bool pause_ms(struct retention *r, int64_t ms)
{
    return thread_pause(&r->wake, &r->mutex, &r->stopping, ms);
}

/* What is not there is not old either. */
static bool look(struct walk *walk, const char *key, bool *there, bool *old, struct error *err)
{
    struct store_info info = {0};
    int64_t deadline_ms = clock_monotonic_ms() + CALL_TIMEOUT_MS;

    *there = store_head(walk->retention->store, key, deadline_ms, &info, err);
    *old = *there && info.modified_ms < walk->before_ms;
    return *there || err->code == ERROR_NOT_FOUND;
}

static bool delete_file(struct walk *walk, const char *key, int64_t deadline_ms, struct error *err)
{
    if (!store_delete(walk->retention->store, key, deadline_ms, err))
        return false;
    walk->deleted++;
    metric_add(METRIC_EXPIRED, "", 1);
    return true;
}

static bool delete_old(struct walk *walk, const char *key, struct error *err)
{
    bool there, old;

    return look(walk, key, &there, &old, err) &&
           (!old || delete_file(walk, key, clock_monotonic_ms() + CALL_TIMEOUT_MS, err));
}

/* Once the rows are hidden it may be another object by that name: an upload came between. */
static bool delete_listed(struct walk *walk, const char *key, const struct object_name *name,
                          struct error *err)
{
    const int64_t deadline_ms = clock_monotonic_ms() + CALL_TIMEOUT_MS;
    struct catalogue *catalogue = walk->retention->catalogue;
    struct error ignored;
    bool there, old;

    if (!catalogue_begin_deletion(catalogue, name, deadline_ms, err))
        return false;
    if (!look(walk, key, &there, &old, err)) {
        (void)!catalogue_end_deletion(catalogue, name->id, false, deadline_ms, &ignored);
        return false;
    }
    return (!old || delete_file(walk, key, deadline_ms, err)) &&
           catalogue_end_deletion(catalogue, name->id, old || !there, deadline_ms, err);
}

static bool delete_object(struct walk *walk, const char *key, struct error *err)
{
    const int64_t deadline_ms = clock_monotonic_ms() + CALL_TIMEOUT_MS;
    const char *prefix = store_prefix(walk->retention->store);
    char result[STORE_KEY_MAX + 1];
    struct object_name name;
    bool there, old;

    if (!look(walk, key, &there, &old, err))
        return false;
    if (!old)
        return true;
    return (walk->retention->catalogue != NULL && object_name_parse(key + strlen(prefix), &name)
                ? delete_listed(walk, key, &name, err)
                : delete_file(walk, key, deadline_ms, err)) &&
           result_key(key, result, sizeof(result), err) && delete_old(walk, result, err);
}

static bool delete_result(struct walk *walk, const char *key, struct error *err)
{
    char object[STORE_KEY_MAX + 1];
    bool there, old;

    snprintf(object, sizeof(object), "%.*s", (int)(strlen(key) - strlen(RESULT_SUFFIX)), key);
    return look(walk, object, &there, &old, err) && (there || delete_old(walk, key, err));
}

/* One failure does not end the walk: the next file may well go. */
static bool visit(void *ctx, const char *key, uint64_t size)
{
    struct walk *walk = ctx;
    const char *prefix = store_prefix(walk->retention->store);
    struct error err = {0};
    bool ok = true;

    (void)size;
    if (!string_starts_with(key, prefix))
        return true;
    switch (key_kind_of(key + strlen(prefix))) {
    case KEY_OBJECT:
        ok = delete_object(walk, key, &err);
        break;
    case KEY_RESULT:
        ok = delete_result(walk, key, &err);
        break;
    case KEY_REJECTED:
    case KEY_TASK:
        ok = delete_old(walk, key, &err);
        break;
    case KEY_FOREIGN:
        break;
    }
    if (!ok) {
        walk->failed++;
        walk->err = err;
    }
    return pause_ms(walk->retention, PAUSE_MS);
}

static void expire(struct retention *r)
{
    struct walk walk = {.retention = r, .before_ms = clock_wall_ms() - r->max_age_ms};

    bool listed = store_list(r->store, store_prefix(r->store),
                             clock_monotonic_ms() + WALK_TIMEOUT_MS, visit, &walk, &walk.err);
    if (!listed || walk.failed > 0)
        log_error("not all that is older than RETENTION_DAYS could be deleted; trying again later",
                  F("deleted", walk.deleted), F("failed", walk.failed),
                  F("error", (const char *)walk.err.message));
    else if (walk.deleted > 0)
        log_info("deleted what is older than RETENTION_DAYS", F("deleted", walk.deleted));
}

static void *retention_main(void *arg)
{
    struct retention *r = arg;

    for (int64_t wait_ms = FIRST_MS; pause_ms(r, wait_ms); wait_ms = EVERY_MS)
        expire(r);
    return NULL;
}

struct retention *retention_new(struct store *store, struct catalogue *catalogue, int64_t days,
                                struct error *err)
{
    struct retention *r = xcalloc(1, sizeof(*r));

    r->store = store;
    r->catalogue = catalogue;
    r->max_age_ms = days * DAY_MS;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->wake, NULL);
    if (!thread_start(&r->thread, retention_main, r, err)) {
        pthread_cond_destroy(&r->wake);
        pthread_mutex_destroy(&r->mutex);
        free(r);
        return NULL;
    }
    return r;
}

void retention_free(struct retention *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->mutex);
    r->stopping = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->mutex);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}
