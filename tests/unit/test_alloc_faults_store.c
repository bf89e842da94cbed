/* Memory runs out in the HTTP client and the stores (see alloc_faults.h). Of libcurl the first
 * allocations fail too, but what it loses itself then is not counted. */
#include "alloc_faults.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "client/http_client.h"
#include "store/bucket/xml.h"
#include "store/store.h"
#include "test_folder.h"
#include "test_http_server.h"

/* ---- a server that has one object, in whatever bucket */

static struct test_server server;

static void answer(int fd, const char *request)
{
    static const char listing[] = "<ListBucketResult><Contents><Key>a/b.jpg</Key><Size>5</Size>"
                                  "</Contents><IsTruncated>false</IsTruncated></ListBucketResult>";
    bool is_list = strstr(request, "list-type=2") != NULL || strstr(request, "prefix=") != NULL;
    const char *body = strncmp(request, "GET ", 4) != 0 ? "" : is_list ? listing : "hello";
    char reply[1024];

    int len = snprintf(
        reply, sizeof(reply),
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %zu\r\n"
        "Content-Type: image/jpeg\r\nETag: \"e\"\r\nx-amz-meta-one: 1\r\nx-goog-meta-one: 1\r\n"
        "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n\r\n%s",
        strncmp(request, "HEAD", 4) == 0 ? 5 : strlen(body), body);
    if (send(fd, reply, (size_t)len, MSG_NOSIGNAL) != len)
        return;
    shutdown(fd, SHUT_WR);
    while (recv(fd, reply, sizeof(reply), 0) > 0)
        ;
}

static void serve(struct test_server *s, int fd)
{
    char request[8192];

    /* also when a test has failed and forgets a connection */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 2}, sizeof(struct timeval));
    if (test_read_request(fd, request, sizeof(request)))
        answer(fd, request);
}

/* While a fault is due: not enough for the pauses before other attempts. */
static int64_t soon(void)
{
    return clock_monotonic_ms() + (alloc_faults.left > 0 ? 60 : 10000);
}

/* ---- listings */

static bool see_element(void *ctx, const char *path, const char *text, struct error *err)
{
    ++*(int *)ctx;
    return true;
}

static bool read_xml(void *ctx, struct error *err)
{
    int seen = 0;

    if (!xml_read(bytes_from_str(ctx), see_element, &seen, err))
        return false;
    assert_int_equal(seen, 3);
    return true;
}

TEST_WITH(test_xml, NULL, alloc_faults_teardown)
{
    char document[] = "<a><b>some text</b><c>x &amp; y</c></a>";

    alloc_faults_run("XML", read_xml, document);
}

/* ---- the client */

static bool call(void *ctx, struct error *err)
{
    static const char *const headers[] = {"X-One: 1", "X-Empty:", NULL};
    struct http_client *client = http_client_new(&(struct http_client_options){0}, err);
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    char etag[16];

    if (client == NULL)
        return false;
    bool ok = http_client_call(client,
                               &(struct http_call){.method = "GET",
                                                   .url = ctx,
                                                   .headers = headers,
                                                   .deadline_ms = soon(),
                                                   .max_reply_bytes = 100},
                               &reply, err);
    http_client_free(client);
    if (!ok) {
        assert_null(reply.body.data);
        return false;
    }
    assert_int_equal(reply.status, 200);
    assert_true(bytes_equal(buffer_view(&reply.body), bytes_from_str("hello")));
    assert_true(http_reply_header(&reply, "etag", etag, sizeof(etag)));
    return true;
}

TEST_WITH(test_client, NULL, alloc_faults_teardown)
{
    CLEANUP_FREE char *url = xasprintf("http://127.0.0.1:%d/x", server.port);

    alloc_faults_run("client", call, url);
}

/* ---- stores */

static bool see_key(void *ctx, const char *key, uint64_t size)
{
    assert_int_equal(size, 5);
    *(bool *)ctx = strcmp(key, "a/b.jpg") == 0;
    return true;
}

static bool put(struct store *store, struct error *err)
{
    return store_put(store,
                     &(struct store_put){.key = "a/b.jpg",
                                         .data = bytes_from_str("hello"),
                                         .content_type = "image/jpeg",
                                         .deadline_ms = soon()},
                     NULL, err);
}

static bool get(struct store *store, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = {0};

    if (!store_get(store,
                   &(struct store_get){.key = "a/b.jpg", .max_bytes = 99, .deadline_ms = soon()},
                   &data, NULL, err))
        return false;
    assert_true(bytes_equal(buffer_view(&data), bytes_from_str("hello")));
    return true;
}

/* Everything that a store does. */
static bool use_store(struct store *store, struct error *err)
{
    struct store_info info = {0};
    bool listed = false;

    if (!put(store, err) || !get(store, err) || !store_head(store, "a/b.jpg", soon(), &info, err))
        return false;
    assert_int_equal(info.size, 5);
    if (!store_list(store, "a/", soon(), see_key, &listed, err))
        return false;
    assert_true(listed);
    return store_delete(store, "a/b.jpg", soon(), err);
}

static bool open_and_use(void *ctx, struct error *err)
{
    struct store *store = store_open(ctx, err);
    bool ok = store != NULL && use_store(store, err);

    store_free(store);
    return ok;
}

static bool token(struct bearer *bearer, int64_t deadline_ms, char out[BEARER_MAX],
                  struct error *err)
{
    memcpy(out, "token", 6);
    return true;
}

static void no_pause(struct store_options *o)
{
    struct error err = {0};

    o->client = http_client_new(&(struct http_client_options){0}, &err);
    assert_non_null(o->client);
}

TEST_WITH(test_buckets, NULL, alloc_faults_teardown)
{
    CLEANUP_FREE char *endpoint = xasprintf("http://127.0.0.1:%d", server.port);
    struct store_options s3 = {
        .url = "s3://bucket",
        .s3 = {
            .endpoint = endpoint, .region = "r", .access_key = "access", .secret_key = "secret"}};
    struct bearer bearer = {.get = token};
    struct store_options gs = {.url = "gs://bucket",
                               .gcs = {.endpoint = endpoint, .bearer = &bearer}};

    no_pause(&s3);
    no_pause(&gs);
    alloc_faults_run("s3", open_and_use, &s3);
    alloc_faults_run("gs", open_and_use, &gs);
    http_client_free(s3.client);
    http_client_free(gs.client);
}

TEST_WITH(test_directory, NULL, alloc_faults_teardown)
{
    char dir[TEST_FOLDER_MAX];

    assert_int_equal(test_folder_make(dir), 0);
    CLEANUP_FREE char *url = xasprintf("file:%s/x", dir);
    struct store_options options = {.url = url};
    alloc_faults_run("file", open_and_use, &options);
    assert_int_equal(test_folder_remove(dir), 0);
}

static int begin(void **state)
{
    alloc_faults_hook();
    test_server_start(&server, serve, true, 0);
    return 0;
}

static int end(void **state)
{
    test_server_stop(&server);
    return 0;
}

TEST_MAIN(begin, end)
