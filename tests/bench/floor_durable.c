/* Floor (e): what makes an upload durable, through the services' own store and outbox: one object
 * put, one event committed (grouped with those of the other threads), or one after the other.
 * floor-durable put|commit|both THREADS SECONDS FOLDER BYTES */
#include "base/clock.h"
#include "events/outbox.h"
#include "floor_loop.h"
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

int main(int argc, char **argv)
{
    atomic_ullong counter = 0;
    struct durable d = {.counter = &counter};
    char url[4096], path[4096];
    struct error err = {0};

    if (argc != 6)
        die("usage: floor-durable put|commit|both THREADS SECONDS FOLDER BYTES");
    d.put = strcmp(argv[1], "commit") != 0;
    d.commit = strcmp(argv[1], "put") != 0;
    snprintf(url, sizeof(url), "file:%s/objects", argv[4]);
    snprintf(path, sizeof(path), "%s/outbox.db", argv[4]);
    d.store = store_open(&(struct store_options){.url = url}, &err);
    d.outbox =
        d.store != NULL
            ? outbox_open(&(struct outbox_options){.path = path, .max_pending = 10000000}, &err)
            : NULL;
    if (d.outbox == NULL)
        die("%s", err.message);
    size_t len = (size_t)number_arg("BYTES", argv[5], 1, 100000000);
    uint8_t *data = allocate(len);
    memset(data, 0x5a, len);
    d.object = bytes_of(data, len);
    if (getrandom(&d.run, sizeof(d.run), 0) != (ssize_t)sizeof(d.run))
        die("no randomness");
    floor_loop_run(&(struct floor_loop){
        .name = argv[1],
        .threads = (int)number_arg("THREADS", argv[2], 1, FLOOR_THREADS_MAX),
        .seconds = seconds_arg("SECONDS", argv[3]),
        .begin = begin,
        .step = step,
        .end = end,
        .ctx = &d,
    });
    outbox_close(d.outbox);
    store_free(d.store);
    free(data);
    return 0;
}
