/* The driver of a store whose objects under "sealed/" are sealed. It works over any other driver.
 * What an object is, its name says: an object that is put in a sealed one's place is refused. */
#include "base/metrics.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/driver.h"
#include "store/sealed/seal.h"
#include "store/store.h"

#include <string.h>

struct sealed {
    const struct store_driver *driver;
    void *state;
    const char *prefix;     /* the store's */
    struct seal_keys *keys; /* NULL: no SEAL_KEYS_FILE */
};

enum { HEAD_LEN = SEAL_HEADER_LEN + SEAL_SEALED_OWNER_LEN }; /* where chunks begin, at most */

static const char content_type[] = "application/octet-stream";

/* What an object is sealed as: a bucket may be copied to another prefix. */
static const char *name_of(const struct sealed *s, const char *key)
{
    return key + strlen(s->prefix);
}

static bool is_sealed(const struct sealed *s, const char *key)
{
    return string_starts_with(name_of(s, key), STORE_SEALED);
}

/* What the object itself is refused for, and not a store that is away. */
static bool refused(const struct error *err)
{
    if (err->code == ERROR_INTERNAL)
        metric_add(METRIC_SEALED, "outcome=\"damaged\"", 1);
    if (err->code == ERROR_UNAVAILABLE)
        metric_add(METRIC_SEALED, "outcome=\"no_key\"", 1);
    return false;
}

static bool has_keys(const struct sealed *s, struct error *err)
{
    if (s->keys != NULL)
        return true;
    error_set(err, ERROR_UNAVAILABLE, "a sealed object: set SEAL_KEYS_FILE");
    return refused(err);
}

/* What is not there is not found, with keys and without. */
static bool can_open(const struct sealed *s, const char *key, int64_t deadline_ms,
                     struct error *err)
{
    struct store_info info;

    return s->keys != NULL ||
           (s->driver->head(s->state, key, deadline_ms, &info, err) && has_keys(s, err));
}

static bool damaged(struct error *err)
{
    error_set(err, ERROR_INTERNAL, "the sealed object is damaged");
    return refused(err);
}

static bool put_sealed(struct sealed *s, const struct store_put *put, bool *existed,
                       struct error *err)
{
    CLEANUP(buffer_done) struct buffer sealed = BUFFER_MAX(SIZE_MAX / 2);
    struct store_put inner = *put;

    if (!has_keys(s, err) || !seal(s->keys, name_of(s, put->key),
                                   put->owner != NULL ? put->owner : "", put->data, &sealed, err))
        return false;
    inner.data = buffer_view(&sealed);
    inner.content_type = content_type;
    if (!s->driver->put(s->state, &inner, existed, err))
        return false;
    metric_add(METRIC_SEALED, "outcome=\"sealed\"", 1);
    return true;
}

static bool store_sealed_put(void *state, const struct store_put *put, bool *existed,
                             struct error *err)
{
    struct sealed *s = state;

    return is_sealed(s, put->key) ? put_sealed(s, put, existed, err)
                                  : s->driver->put(s->state, put, existed, err);
}

/* ---- get */

/* `length` bytes at `offset` of what is stored; 0: to the end. */
static bool read_stored(struct sealed *s, const struct store_get *get, uint64_t offset,
                        uint64_t length, struct buffer *data, struct store_info *info,
                        struct error *err)
{
    struct store_get inner = *get;

    inner.offset = offset;
    inner.length = length;
    inner.max_bytes = data->max;
    return s->driver->get(s->state, &inner, data, info, err);
}

static bool open_header(struct sealed *s, const char *key, struct bytes stored,
                        struct store_info *info, struct seal_opened *ret, struct error *err)
{
    if (stored.len < SEAL_HEADER_LEN)
        return damaged(err);
    if (!seal_open(s->keys, name_of(s, key), stored.data, ret, err))
        return refused(err);
    if (seal_size(ret) != info->size)
        return damaged(err);
    info->size = ret->size;
    return true;
}

/* The bytes that were asked for, out of the opened chunks from number `first` on. */
static bool cut(const struct store_get *get, uint64_t size, uint64_t first, struct bytes plain,
                struct buffer *data, struct error *err)
{
    if (get->offset > size || (get->offset == size && size > 0))
        return error_set(err, ERROR_RANGE, "the object has %llu bytes", (unsigned long long)size);
    uint64_t left = size - get->offset, skip = get->offset - first * SEAL_CHUNK_LEN;
    uint64_t length = get->length == 0 || get->length > left ? left : get->length;
    if (length > get->max_bytes)
        return error_set(err, ERROR_TOO_LARGE, "the object is larger than %zu bytes",
                         get->max_bytes);
    if (plain.len < skip + length)
        return damaged(err);
    return length == 0 || buffer_append(data, plain.data + skip, (size_t)length, err);
}

/* What was read of an object: from its beginning, or its header, and chunks from `first` on. */
static struct bytes chunks_of(const struct seal_opened *opened, uint64_t first, struct bytes stored,
                              size_t room)
{
    size_t start = first == 0 ? seal_start(opened) : SEAL_HEADER_LEN;

    start = start < stored.len ? start : stored.len;
    stored = bytes_of(stored.data + start, stored.len - start);
    stored.len = stored.len < room ? stored.len : room;
    return stored;
}

/* One read if the first chunk is asked for, otherwise one for the header and one for the chunks: of
 * an object that is replaced between the two they do not fit, which is told as damage. */
static bool get_sealed(struct sealed *s, const struct store_get *get, struct buffer *data,
                       struct store_info *info, struct error *err)
{
    const uint64_t first = get->offset / SEAL_CHUNK_LEN;
    const uint64_t most =
        get->length == 0 || get->length > get->max_bytes ? get->max_bytes : get->length;
    const uint64_t chunks = (get->offset % SEAL_CHUNK_LEN + most) / SEAL_CHUNK_LEN + 1;
    const size_t room = (size_t)chunks * SEAL_SEALED_CHUNK_LEN;
    CLEANUP(buffer_done) struct buffer stored = BUFFER_MAX(HEAD_LEN + room);
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(room);
    CLEANUP(seal_opened_done) struct seal_opened opened = {0};

    if (!read_stored(s, get, 0, first == 0 ? stored.max : SEAL_HEADER_LEN, &stored, info, err) ||
        !open_header(s, get->key, buffer_view(&stored), info, &opened, err))
        return false;
    if (get->offset < opened.size && first > 0 &&
        !read_stored(s, get, seal_start(&opened) + first * SEAL_SEALED_CHUNK_LEN, room, &stored,
                     &(struct store_info){0}, err))
        return false;
    if (!seal_open_chunks(&opened, first, chunks_of(&opened, first, buffer_view(&stored), room),
                          &plain, err))
        return refused(err);
    if (!cut(get, opened.size, first, buffer_view(&plain), data, err))
        return false;
    metric_add(METRIC_SEALED, "outcome=\"opened\"", 1);
    return true;
}

static bool store_sealed_get(void *state, const struct store_get *get, struct buffer *data,
                             struct store_info *info, struct error *err)
{
    struct sealed *s = state;

    if (!is_sealed(s, get->key))
        return s->driver->get(s->state, get, data, info, err);
    return can_open(s, get->key, get->deadline_ms, err) && get_sealed(s, get, data, info, err);
}

/* ---- new keys */

bool store_reseal(struct store *store, const char *key, int64_t deadline_ms, bool *changed,
                  struct error *err)
{
    struct sealed *s = store->state;
    CLEANUP(buffer_done) struct buffer stored = BUFFER_MAX(SIZE_MAX / 2);
    struct store_get get = {.key = key, .max_bytes = stored.max, .deadline_ms = deadline_ms};
    struct store_info info;

    if (!store_key_allowed(store, key, err) || !has_keys(s, err))
        return false;
    if (!is_sealed(s, key))
        return error_set(err, ERROR_BAD_REQUEST, "not a sealed object's key");
    if (!read_stored(s, &get, 0, 0, &stored, &info, err))
        return false;
    if (stored.len < SEAL_HEADER_LEN)
        return damaged(err);
    return seal_rewrap(s->keys, name_of(s, key), stored.data, changed, err) &&
           (!*changed || s->driver->put(s->state,
                                        &(struct store_put){.key = key,
                                                            .data = buffer_view(&stored),
                                                            .content_type = content_type,
                                                            .deadline_ms = deadline_ms},
                                        &(bool){false}, err));
}

/* ---- the rest */

static bool store_sealed_head(void *state, const char *key, int64_t deadline_ms,
                              struct store_info *info, struct error *err)
{
    struct sealed *s = state;
    struct store_get get = {.key = key, .deadline_ms = deadline_ms};
    CLEANUP(buffer_done) struct buffer head = BUFFER_MAX(HEAD_LEN);
    CLEANUP(seal_opened_done) struct seal_opened opened = {0};

    if (!is_sealed(s, key))
        return s->driver->head(s->state, key, deadline_ms, info, err);
    if (!can_open(s, key, deadline_ms, err) || /* the size of what is cut is not told, either */
        !read_stored(s, &get, 0, HEAD_LEN, &head, info, err) ||
        !open_header(s, key, buffer_view(&head), info, &opened, err))
        return false;
    return !opened.owned ||
           seal_open_owner(&opened,
                           bytes_of(head.data + SEAL_HEADER_LEN, head.len - SEAL_HEADER_LEN),
                           info->owner, err) ||
           refused(err);
}

static bool store_sealed_remove(void *state, const char *key, int64_t deadline_ms,
                                struct error *err)
{
    struct sealed *s = state;

    return s->driver->remove(s->state, key, deadline_ms, err);
}

static bool store_sealed_list(void *state, const char *prefix, int64_t deadline_ms,
                              store_list_fn fn, void *ctx, struct error *err)
{
    struct sealed *s = state;

    return s->driver->list(s->state, prefix, deadline_ms, fn, ctx, err);
}

static void store_sealed_free(void *state)
{
    struct sealed *s = state;

    s->driver->free(s->state);
    seal_keys_free(s->keys);
    free(s);
}

static const struct store_driver store_sealed_driver = {
    .put = store_sealed_put,
    .get = store_sealed_get,
    .head = store_sealed_head,
    .remove = store_sealed_remove,
    .list = store_sealed_list,
    .free = store_sealed_free,
};

bool store_sealed_wrap(struct store *store, const char *keys_file, struct error *err)
{
    struct seal_keys *keys = NULL;

    if (*keys_file != '\0' && (keys = seal_keys_load(keys_file, err)) == NULL)
        return error_wrap(err, "SEAL_KEYS_FILE");
    struct sealed *s = xmalloc(sizeof(*s));
    *s = (struct sealed){store->driver, store->state, store->prefix, keys};
    store->driver = &store_sealed_driver;
    store->state = s;
    return true;
}
