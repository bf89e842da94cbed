/* A store on standard input and output, for the conformance tests: opened as the services do, from
 * the environment; one JSON object a line in, one out. See tests/integration/store_client.py. */
#include "app/outgoing.h"
#include "base/strings.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { DATA_MAX = 64 << 20, THREADS_MAX = 64, MISTAKES_MAX = 16384, DEADLINE_MS = 30000 };

static const char *text_of(const json_t *in, const char *name, const char *fallback)
{
    const char *value = json_string_value(json_object_get(in, name));

    return value != NULL ? value : fallback;
}

static int64_t number_of(const json_t *in, const char *name, int64_t fallback)
{
    const json_t *value = json_object_get(in, name);

    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

static int64_t deadline_of(const json_t *in)
{
    return clock_monotonic_ms() + number_of(in, "deadline_ms", DEADLINE_MS);
}

static bool put(struct store *store, const json_t *in, json_t *out, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(DATA_MAX);
    bool existed = false;

    if (!string_base64_decode(text_of(in, "data", ""), &data, err))
        return false;
    bool ok = store_put(store,
                        &(struct store_put){
                            .key = text_of(in, "key", ""),
                            .data = buffer_view(&data),
                            .content_type = text_of(in, "content_type", "application/octet-stream"),
                            .if_absent = json_is_true(json_object_get(in, "if_absent")),
                            .deadline_ms = deadline_of(in),
                        },
                        &existed, err);
    json_object_set_new(out, "existed", json_boolean(existed));
    return ok;
}

static void tell_info(json_t *out, const struct store_info *info)
{
    json_object_set_new(out, "size", json_integer((json_int_t)info->size));
    json_object_set_new(out, "etag", json_string(info->etag));
    json_object_set_new(out, "modified_ms", json_integer(info->modified_ms));
}

static bool get(struct store *store, const json_t *in, json_t *out, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = {0};
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(2 * DATA_MAX);
    struct store_info info = {0};

    if (!store_get(store,
                   &(struct store_get){
                       .key = text_of(in, "key", ""),
                       .offset = (uint64_t)number_of(in, "offset", 0),
                       .length = (uint64_t)number_of(in, "length", 0),
                       .max_bytes = (size_t)number_of(in, "max_bytes", DATA_MAX),
                       .deadline_ms = deadline_of(in),
                   },
                   &data, &info, err) ||
        !string_base64_encode(buffer_view(&data), &text, err))
        return false;
    const char *base64 = buffer_cstr(&text, err);
    json_object_set_new(out, "data", json_string(base64 != NULL ? base64 : ""));
    tell_info(out, &info);
    return base64 != NULL;
}

static bool head(struct store *store, const json_t *in, json_t *out, struct error *err)
{
    struct store_info info = {0};

    if (!store_head(store, text_of(in, "key", ""), deadline_of(in), &info, err))
        return false;
    tell_info(out, &info);
    return true;
}

struct listing {
    json_t *keys;
    int64_t left; /* entries until the visitor has seen enough */
};

static bool visit(void *ctx, const char *key, uint64_t size)
{
    struct listing *listing = ctx;

    json_array_append_new(listing->keys, json_pack("[s, I]", key, (json_int_t)size));
    return --listing->left > 0;
}

static bool list(struct store *store, const json_t *in, json_t *out, struct error *err)
{
    struct listing listing = {json_array(), number_of(in, "stop_after", INT64_MAX)};

    json_object_set_new(out, "keys", listing.keys);
    return store_list(store, text_of(in, "prefix", ""), deadline_of(in), visit, &listing, err);
}

struct worker {
    pthread_t thread;
    struct store *store;
    const json_t *in;
    int number;
    struct error err;
    bool ok;
};

/* Objects of its own, each written, read back whole and deleted. */
static void *work(void *arg)
{
    struct worker *w = arg;
    const int64_t rounds = number_of(w->in, "rounds", 10);
    char key[128], body[256];

    w->ok = true;
    for (int64_t i = 0; i < rounds && w->ok; i++) {
        CLEANUP(buffer_done) struct buffer data = {0};
        const int64_t deadline_ms = deadline_of(w->in);
        snprintf(key, sizeof(key), "%s%d-%" PRId64, text_of(w->in, "prefix", ""), w->number, i);
        snprintf(body, sizeof(body), "the object %s", key);
        w->ok = store_put(w->store,
                          &(struct store_put){.key = key,
                                              .data = bytes_from_str(body),
                                              .content_type = "text/plain",
                                              .deadline_ms = deadline_ms},
                          NULL, &w->err) &&
                store_get(
                    w->store,
                    &(struct store_get){.key = key, .max_bytes = 1000, .deadline_ms = deadline_ms},
                    &data, NULL, &w->err) &&
                (bytes_equal(buffer_view(&data), bytes_from_str(body)) ||
                 error_set(&w->err, ERROR_INTERNAL, "other bytes came back")) &&
                store_delete(w->store, key, deadline_ms, &w->err);
    }
    return NULL;
}

/* Objects of one byte, which stay. */
static void *fill(void *arg)
{
    struct worker *w = arg;
    const int64_t rounds = number_of(w->in, "rounds", 10);
    char key[128];

    w->ok = true;
    for (int64_t i = 0; i < rounds && w->ok; i++) {
        snprintf(key, sizeof(key), "%s%d-%" PRId64, text_of(w->in, "prefix", ""), w->number, i);
        w->ok = store_put(w->store,
                          &(struct store_put){.key = key,
                                              .data = bytes_from_str("x"),
                                              .content_type = "text/plain",
                                              .deadline_ms = deadline_of(w->in)},
                          NULL, &w->err);
    }
    return NULL;
}

static bool parallel(struct store *store, const json_t *in, void *(*body)(void *),
                     struct error *err)
{
    static struct worker workers[THREADS_MAX];
    const int count = (int)number_of(in, "threads", 8);
    bool ok = true;

    for (int i = 0; i < count && i < THREADS_MAX; i++) {
        workers[i] = (struct worker){.store = store, .in = in, .number = i};
        if (pthread_create(&workers[i].thread, NULL, body, &workers[i]) != 0)
            return error_set(err, ERROR_INTERNAL, "no thread");
    }
    for (int i = 0; i < count && i < THREADS_MAX; i++) {
        pthread_join(workers[i].thread, NULL);
        if (!workers[i].ok)
            *err = workers[i].err;
        ok = ok && workers[i].ok;
    }
    return ok;
}

static bool run(struct store *store, struct clock_cut *cut, const json_t *in, json_t *out,
                struct error *err)
{
    const char *op = text_of(in, "op", "");
    char uri[STORE_URI_MAX], key[STORE_KEY_MAX + 1];
    unsigned failures;
    int64_t known_ms;

    if (strcmp(op, "put") == 0)
        return put(store, in, out, err);
    if (strcmp(op, "get") == 0)
        return get(store, in, out, err);
    if (strcmp(op, "head") == 0)
        return head(store, in, out, err);
    if (strcmp(op, "delete") == 0)
        return store_delete(store, text_of(in, "key", ""), deadline_of(in), err);
    if (strcmp(op, "list") == 0)
        return list(store, in, out, err);
    if (strcmp(op, "parallel") == 0)
        return parallel(store, in, work, err);
    if (strcmp(op, "fill") == 0)
        return parallel(store, in, fill, err);
    if (strcmp(op, "cut") == 0) { /* as at shutdown: what runs from now on ends then */
        clock_cut_set(cut, deadline_of(in));
        return true;
    }
    if (strcmp(op, "health") == 0) {
        store_health(store, &failures, &known_ms);
        json_object_set_new(out, "failures", json_integer(failures));
        return true;
    }
    if (strcmp(op, "uri") == 0) {
        bool ok = store_uri(store, text_of(in, "key", ""), uri, err) &&
                  store_key_of_uri(store, uri, key, err);
        if (ok)
            json_object_set_new(out, "uri", json_string(uri));
        return ok && (strcmp(key, text_of(in, "key", "")) == 0 ||
                      error_set(err, ERROR_INTERNAL, "the URI leads to another key"));
    }
    return error_set(err, ERROR_BAD_REQUEST, "unknown op %s", op);
}

static bool answer(struct store *store, struct clock_cut *cut, const char *line)
{
    struct error err = {0};
    json_t *in = json_loads(line, 0, NULL);
    json_t *out = json_object();
    int64_t started = clock_monotonic_ms();

    bool ok = in != NULL && run(store, cut, in, out, &err);
    json_object_set_new(out, "ok", json_boolean(ok));
    json_object_set_new(out, "ms", json_integer(clock_monotonic_ms() - started));
    if (!ok) {
        json_object_set_new(out, "error", json_string(error_slug(err.code)));
        json_object_set_new(out, "message", json_string(err.message));
    }
    char *text = json_dumps(out, JSON_COMPACT);
    bool told = text != NULL && puts(text) >= 0 && fflush(stdout) == 0;
    free(text);
    json_decref(in);
    json_decref(out);
    return told;
}

int main(void)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(MISTAKES_MAX);
    struct settings settings;
    struct outgoing outgoing = {0};
    struct store_options storage;
    struct clock_cut cut = {0};
    struct error err = {0};
    char *line = NULL;
    size_t size = 0;
    int status = 2;

    signal(SIGPIPE, SIG_IGN);
    bool ok = settings_load(SERVICE_CLASSIFY, &settings, &mistakes);
    struct store *store = ok && outgoing_open(&settings, &cut, &outgoing, &err)
                              ? storage_open(&settings, &outgoing, &storage, &err)
                              : NULL;
    if (store == NULL) {
        fprintf(stderr, "%.*s%s\n", (int)mistakes.len, (const char *)mistakes.data, err.message);
    } else {
        status = 0;
        while (getline(&line, &size, stdin) > 0 && answer(store, &cut, line))
            continue;
    }
    free(line);
    store_free(store);
    outgoing_done(&outgoing);
    settings_done(&settings);
    return status;
}
