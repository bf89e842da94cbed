#include "app/readiness.h"

#include "base/clock.h"
#include "base/threads.h"
#include "base/xmalloc.h"

enum {
    FRESH_MS = 5000,
    FAILURES_MAX = 3,
    PROBE_TIMEOUT_MS = 5000,
};

struct readiness {
    struct store *store;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool wanted;
    bool stopping;
};

/* Asking for an object that is not there is an answer too: storage works. */
static void probe(struct store *store)
{
    char key[STORE_KEY_MAX + 1];
    struct error ignored;

    int n = snprintf(key, sizeof(key), "%sreadiness-probe", store_prefix(store));
    if (n > 0 && n < (int)sizeof(key))
        (void)!store_head(store, key, clock_monotonic_ms() + PROBE_TIMEOUT_MS, NULL, &ignored);
}

static void *probe_main(void *arg)
{
    struct readiness *r = arg;

    pthread_mutex_lock(&r->mutex);
    while (!r->stopping) {
        if (!r->wanted) {
            pthread_cond_wait(&r->changed, &r->mutex);
            continue;
        }
        pthread_mutex_unlock(&r->mutex);
        probe(r->store);
        pthread_mutex_lock(&r->mutex);
        r->wanted = false;
    }
    pthread_mutex_unlock(&r->mutex);
    return NULL;
}

struct readiness *readiness_new(struct store *store, struct error *err)
{
    struct readiness *r = xcalloc(1, sizeof(*r));

    r->store = store;
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (!thread_start(&r->thread, probe_main, r, err)) {
        free(r);
        return NULL;
    }
    return r;
}

void readiness_free(struct readiness *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->mutex);
    r->stopping = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->mutex);
    pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}

bool readiness_storage(struct readiness *r)
{
    unsigned failures;
    int64_t known_ms;

    pthread_mutex_lock(&r->mutex); /* a look that ends now is seen */
    store_health(r->store, &failures, &known_ms);
    bool old = known_ms == 0 || clock_monotonic_ms() - known_ms > FRESH_MS;
    if (old && !r->wanted) {
        r->wanted = true;
        pthread_cond_signal(&r->changed);
    }
    pthread_mutex_unlock(&r->mutex);
    return failures < FAILURES_MAX;
}
