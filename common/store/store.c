#include "store/store.h"

#include "base/clock.h"
#include "base/strings.h"
#include "store/driver.h"

#include <string.h>

enum { WRITES_REMEMBERED_MS = 5000 };

static bool check_characters(const char *key, struct error *err)
{
    for (const unsigned char *p = (const unsigned char *)key; *p != '\0'; p++)
        if (*p < ' ' || *p == 0x7f)
            return error_set(err, ERROR_BAD_REQUEST, "a control character in the object key");
    return string_is_utf8(bytes_from_str(key)) ||
           error_set(err, ERROR_BAD_REQUEST, "the object key is not UTF-8");
}

bool store_key_check(const char *key, struct error *err)
{
    size_t len = strnlen(key, STORE_KEY_MAX + 1);

    if (len == 0)
        return error_set(err, ERROR_BAD_REQUEST, "an empty object key");
    if (len > STORE_KEY_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "an object key of more than %d bytes",
                         STORE_KEY_MAX);
    for (const char *segment = key;; segment += strcspn(segment, "/") + 1) {
        size_t segment_len = strcspn(segment, "/");
        if ((segment_len == 1 || segment_len == 2) && memcmp(segment, "..", segment_len) == 0)
            return error_set(err, ERROR_BAD_REQUEST, "a '.' or '..' segment in the object key");
        if (segment[segment_len] == '\0')
            return check_characters(key, err);
    }
}

bool store_key_allowed(const struct store *store, const char *key, struct error *err)
{
    return store_key_check(key, err) &&
           (string_starts_with(key, store->prefix) ||
            error_set(err, ERROR_FORBIDDEN, "the object is outside this service's storage"));
}

bool store_is_printable(const char *s, size_t max)
{
    size_t len = 0;

    while (len <= max && s[len] >= ' ' && s[len] <= '~')
        len++;
    return len > 0 && len <= max && s[len] == '\0';
}

bool store_in_time(int64_t deadline_ms, struct error *err)
{
    return clock_left_ms(deadline_ms) > 0 ||
           error_set(err, ERROR_DEADLINE, "no time left for the object storage");
}

/* Passing failures count; every other outcome shows that the storage answers. Out of memory is
 * ours, not the storage's. */
static bool record(struct store_outcome *outcome, bool ok, const struct error *err)
{
    if (!ok && err->code == ERROR_OVERLOADED)
        return false;
    if (ok || !error_is_passing(err->code))
        atomic_store(&outcome->failures, 0);
    else
        atomic_fetch_add(&outcome->failures, 1);
    atomic_store(&outcome->known_ms, clock_monotonic_ms());
    return ok;
}

bool store_put(struct store *store, const struct store_put *put, bool *existed, struct error *err)
{
    bool found = false;

    if (!store_key_allowed(store, put->key, err))
        return false;
    if (!store_is_printable(put->content_type, STORE_CONTENT_TYPE_MAX - 1))
        return error_set(err, ERROR_BAD_REQUEST, "not a content type");
    if (put->owner != NULL && strlen(put->owner) > STORE_OWNER_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "the owner's name has more than %d bytes",
                         STORE_OWNER_MAX);
    if (!store_in_time(put->deadline_ms, err) ||
        !record(&store->writes, store->driver->put(store->state, put, &found, err), err))
        return false;
    if (existed != NULL)
        *existed = found;
    return true;
}

bool store_get(struct store *store, const struct store_get *get, struct buffer *data,
               struct store_info *info, struct error *err)
{
    struct store_info found = {0};
    const size_t len = data->len;
    const size_t max = data->max;

    if (!store_key_allowed(store, get->key, err) || !store_in_time(get->deadline_ms, err))
        return false;
    if (data->max == 0)
        data->max = get->max_bytes;
    if (!record(&store->reads, store->driver->get(store->state, get, data, &found, err), err)) {
        data->len = len;
        data->max = max;
        return false;
    }
    if (info != NULL)
        *info = found;
    return true;
}

bool store_head(struct store *store, const char *key, int64_t deadline_ms, struct store_info *info,
                struct error *err)
{
    struct store_info found = {0};

    if (!store_key_allowed(store, key, err) || !store_in_time(deadline_ms, err) ||
        !record(&store->reads, store->driver->head(store->state, key, deadline_ms, &found, err),
                err))
        return false;
    if (info != NULL)
        *info = found;
    return true;
}

bool store_delete(struct store *store, const char *key, int64_t deadline_ms, struct error *err)
{
    return store_key_allowed(store, key, err) && store_in_time(deadline_ms, err) &&
           record(&store->writes, store->driver->remove(store->state, key, deadline_ms, err), err);
}

bool store_list(struct store *store, const char *prefix, int64_t deadline_ms, store_list_fn fn,
                void *ctx, struct error *err)
{
    char probe[STORE_KEY_MAX + 1];

    if (string_starts_with(store->prefix, prefix))
        prefix = store->prefix;
    /* a prefix is valid if some key can start with it */
    if (snprintf(probe, sizeof(probe), "%s-", prefix) >= (int)sizeof(probe))
        return error_set(err, ERROR_BAD_REQUEST, "too long a prefix");
    return store_key_allowed(store, probe, err) && store_in_time(deadline_ms, err) &&
           record(&store->reads,
                  store->driver->list(store->state, prefix, deadline_ms, fn, ctx, err), err);
}

void store_free(struct store *store)
{
    if (store == NULL)
        return;
    if (store->driver != NULL)
        store->driver->free(store->state);
    free(store->place);
    free(store->prefix);
    free(store);
}

const char *store_prefix(const struct store *store)
{
    return store->prefix;
}

void store_health(const struct store *store, unsigned *failures, int64_t *known_ms)
{
    const unsigned reads = atomic_load(&store->reads.failures);
    const unsigned writes = atomic_load(&store->writes.failures);
    const int64_t read_ms = atomic_load(&store->reads.known_ms);
    const int64_t written_ms = atomic_load(&store->writes.known_ms);
    bool another_chance = reads == 0 && read_ms - written_ms > WRITES_REMEMBERED_MS;

    *failures = reads > writes || another_chance ? reads : writes;
    *known_ms = read_ms > written_ms ? read_ms : written_ms;
}
