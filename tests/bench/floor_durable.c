#include "base/clock.h"
#include "events/outbox/outbox.h"
#include "floor.h"
#include "program.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct durable {
    struct store *store;
    struct outbox *outbox;
    bool put, commit;
    struct bytes object;
    uint64_t run;
    atomic_ullong *counter;
};

static void *begin(const void *ctx, int index)
{
    (void)index;
    return (void *)(uintptr_t)ctx;
}

static void put(const struct durable *d, const char *key)
{
    struct error err = {0};

    if (!store_put(d->store,
                   &(struct store_put){.key = key,
                                       .data = d->object,
                                       .content_type = "image/jpeg",
                                       .if_absent = true,
                                       .deadline_ms = clock_monotonic_ms() + 30000},
                   NULL, &err))
        die("%s", err.message);
}

static void commit(const struct durable *d, const char *id, const char *key)
{
    char uri[256], event_id[UUID_LEN + 1];
    struct error err = {0};

    snprintf(uri, sizeof(uri), "file:///a/folder/of/some/length/%s", key);
    if (!outbox_add(d->outbox,
                    &(struct event){
                        .gcs_path = uri, .id = id, .content_type = "image/jpeg", .traceparent = ""},
                    clock_monotonic_ms() + 30000, event_id, &err))
        die("%s", err.message);
}

static void step(void *state, size_t i)
{
    const struct durable *d = state;
    unsigned long long n = atomic_fetch_add(d->counter, 1);
    char id[SHA256_HEX_LEN + 1], key[SHA256_HEX_LEN + 8];

    (void)i;
    /* spread like hashes */
    snprintf(id, sizeof(id), "%016llx%016llx%016llx%016llx", (n + 1) * 0x9e3779b97f4a7c15ULL,
             (unsigned long long)d->run, n, n);
    snprintf(key, sizeof(key), "%s.jpg", id);
    if (d->put)
        put(d, key);
    if (d->commit)
        commit(d, id, key);
}

static void end(void *state)
{
    (void)state;
}

static atomic_ullong counter;
static struct durable durable = {.counter = &counter};

struct floor_step floor_durable_step(bool put, bool commit, const char *folder, size_t len)
{
    struct durable *d = &durable;
    char url[4096], path[4096];
    struct error err = {0};

    d->put = put;
    d->commit = commit;
    snprintf(url, sizeof(url), "file:%s/objects", folder);
    snprintf(path, sizeof(path), "%s/outbox.db", folder);
    d->store = store_open(&(struct store_options){.url = url}, &err);
    d->outbox =
        d->store != NULL
            ? outbox_open(&(struct outbox_options){.path = path, .max_pending = 10000000}, &err)
            : NULL;
    if (d->outbox == NULL)
        die("%s", err.message);
    uint8_t *data = allocate(len);
    memset(data, 0x5a, len);
    d->object = bytes_of(data, len);
    if (getrandom(&d->run, sizeof(d->run), 0) != (ssize_t)sizeof(d->run))
        die("no randomness");
    return (struct floor_step){begin, step, end, d};
}

void floor_durable_close(void)
{
    outbox_close(durable.outbox);
    store_free(durable.store);
}
