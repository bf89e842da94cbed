/* POST /classify with a URI or a picture in JSON: the query's top_k in the first line, the media
 * type in the second, then the body. The store is an empty directory and the pool has no workers,
 * so that nothing is ever classified. */
#include "../../classify_service/app.h"
#include "base/clock.h"
#include "base/xmalloc.h"
#include "fuzz.h"
#include "http/upload.h"

static struct byte_budget budget = {.max = 64 << 20};
static struct app app;

static void remove_folder(void)
{
    char path[STORE_URI_MAX];
    struct error err;

    if (store_uri(app.service.store, "x", path, &err)) {
        path[strlen(path) - 2] = '\0';
        rmdir(path + strlen("file://"));
    }
    worker_pool_free(app.service.pool);
    store_set_free(app.readable);
    store_free(app.service.store);
}

static void start(void)
{
    char folder[] = "/tmp/fuzz_classify.XXXXXX";
    struct error err = {0};

    FUZZ_CHECK(mkdtemp(folder) != NULL);
    CLEANUP_FREE char *url = xasprintf("file://%s", folder);
    struct store_options options = {.url = url};
    app.service.store = store_open(&options, &err);
    FUZZ_CHECK(app.service.store != NULL);
    app.readable = store_set_open(app.service.store, &options, "", &err);
    FUZZ_CHECK(app.readable != NULL);
    app.service.settings.max_body_bytes = 1 << 20;
    app.service.pool = worker_pool_new(&(struct worker_pool_options){0}, &err);
    FUZZ_CHECK(app.service.pool != NULL);
    atexit(remove_folder);
}

/* The body a client gets: JSON, whatever the message quotes. */
static void check_problem(const struct reply *reply)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(65536);
    struct error oom = {0};

    FUZZ_CHECK(reply_error_body(ERROR_FORM_PROBLEM, &reply->error, "id", &body, &oom));
    json_t *json = json_loadb((const char *)body.data, body.len, 0, NULL);
    FUZZ_CHECK(json_is_object(json));
    FUZZ_CHECK(json_integer_value(json_object_get(json, "status")) == reply->status);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);

    if (app.readable == NULL)
        start();
    CLEANUP_FREE char *top_k = fuzz_line(&in);
    CLEANUP_FREE char *type = fuzz_line(&in);
    const struct http_field header = {"Content-Type", type}, query = {"top_k", top_k};
    /* "<root>" in the body stands for the directory, whose name is random */
    char root[STORE_URI_MAX];
    struct error err = {0};
    FUZZ_CHECK(store_uri(app.service.store, "x", root, &err));
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(4 << 20);
    struct bytes before = fuzz_until(&in, "<root>");
    FUZZ_CHECK(buffer_append(&body, before.data, before.len, &err));
    if (in.len > 0)
        FUZZ_CHECK(buffer_append(&body, root, strlen(root) - 1, &err) &&
                   buffer_append(&body, in.data, in.len, &err));
    const struct request req = {.method = "POST",
                                .path = "/classify",
                                .route = "/classify",
                                .headers = &header,
                                .header_count = 1,
                                .query = &query,
                                .query_count = *top_k != '\0',
                                .body = buffer_view(&body),
                                .context = {.id = "id",
                                            .traceparent = "",
                                            .who = "",
                                            .deadline_ms = clock_monotonic_ms() + 10000,
                                            .budget = &budget}};
    char media[MEDIA_TYPE_MAX];
    request_media_type(&req, media);
    if (string_starts_with(media, "image/") || string_starts_with(media, "multipart/"))
        return 0; /* there is no model here */
    struct reply reply = handle_classify(&app, &req);
    FUZZ_CHECK(reply.status == 400 || reply.status == 403 || reply.status == 404 ||
               reply.status == 413 || reply.status == 415 || reply.status == 422 ||
               reply.status == 503);
    fuzz_check_error(&reply.error);
    check_problem(&reply);
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
    reply_done(&reply);
    return 0;
}
