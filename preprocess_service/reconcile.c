#include "reconcile.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

enum {
    LOOK_EVERY_MS = 500,
    RETRY_MS = 5000, /* after a walk that failed: outbox full, storage down */
    CALL_TIMEOUT_MS = 30000,
    WALK_TIMEOUT_MS = 3600000,
};

struct reconciler {
    struct store *store;
    struct outbox *outbox;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool stopping;
};

struct walk {
    struct reconciler *reconciler;
    int64_t announced;
    bool failed;
    struct error err;
};

/* False when it is time to stop. */
static bool pause_ms(struct reconciler *r, int64_t ms)
{
    return thread_pause(&r->wake, &r->mutex, &r->stopping, ms);
}

static bool has_result(struct store *store, const char *key, bool *ret, struct error *err)
{
    char result[STORE_KEY_MAX + 1];

    if (!result_key(key, result, sizeof(result), err))
        return false;
    *ret = store_head(store, result, clock_monotonic_ms() + CALL_TIMEOUT_MS, NULL, err);
    return *ret || err->code == ERROR_NOT_FOUND;
}

static bool announce(struct walk *walk, const char *key, const struct object_name *name)
{
    char uri[STORE_URI_MAX], event_id[UUID_LEN + 1];
    struct reconciler *r = walk->reconciler;

    if (!store_uri(r->store, key, uri, &walk->err) ||
        !outbox_add(r->outbox,
                    &(struct event){
                        .gcs_path = uri,
                        .id = name->id,
                        .content_type = image_format_content_type(name->format),
                        .traceparent = "",
                    },
                    clock_monotonic_ms() + CALL_TIMEOUT_MS, event_id, &walk->err))
        return false;
    walk->announced++;
    return true;
}

static bool visit(void *ctx, const char *key, uint64_t size)
{
    struct walk *walk = ctx;
    struct reconciler *r = walk->reconciler;
    const char *prefix = store_prefix(r->store);
    struct object_name name;
    bool done = false;

    (void)size;
    if (!pause_ms(r, 0))
        return false;
    if (!string_starts_with(key, prefix) || !object_name_parse(key + strlen(prefix), &name) ||
        name.format == IMAGE_UNKNOWN)
        return true;
    walk->failed =
        !has_result(r->store, key, &done, &walk->err) || (!done && !announce(walk, key, &name));
    return !walk->failed;
}

/* How long until the next look. */
static int64_t reconcile(struct reconciler *r)
{
    struct walk walk = {.reconciler = r};

    log_warning("reconciling: announcing every stored image without a result");
    bool ok = store_list(r->store, store_prefix(r->store), clock_monotonic_ms() + WALK_TIMEOUT_MS,
                         visit, &walk, &walk.err) &&
              !walk.failed;
    if (!pause_ms(r, 0))
        return 0;
    if (!ok || !outbox_reconcile_finished(r->outbox, &walk.err)) {
        log_error("reconciling failed; trying again", F("error", (const char *)walk.err.message));
        return RETRY_MS;
    }
    log_info("reconciled", F("announced", walk.announced));
    return LOOK_EVERY_MS;
}

static void *reconciler_main(void *arg)
{
    struct reconciler *r = arg;

    for (int64_t wait_ms = 0; pause_ms(r, wait_ms);)
        wait_ms = outbox_reconcile_needed(r->outbox) ? reconcile(r) : LOOK_EVERY_MS;
    return NULL;
}

struct reconciler *reconciler_new(struct store *store, struct outbox *outbox, struct error *err)
{
    struct reconciler *r = xcalloc(1, sizeof(*r));

    r->store = store;
    r->outbox = outbox;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->wake, NULL);
    if (!thread_start(&r->thread, reconciler_main, r, err)) {
        pthread_cond_destroy(&r->wake);
        pthread_mutex_destroy(&r->mutex);
        free(r);
        return NULL;
    }
    return r;
}

void reconciler_free(struct reconciler *r)
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
