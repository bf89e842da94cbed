/* The HTTP clients (ours, gRPC's over it, and libs3) against a server that answers with the input:
 * its first byte says how we ask, the rest goes over the wire as it is, and then the connection
 * ends. */
#include "fuzz.h"
#include "grpc/remote.h"
#include "image_pipeline.pb-c.h"
#include "store/bucket/bucket.h"
#include "store/driver.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

enum { REPLY_MAX = 4096, DEADLINE_MS = 5000 };

static int listener = -1;
static char url[64];
static struct http_client *client;
static struct bucket *libs3;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct bytes answer; /* under the mutex: the client may have gone before all of it is sent */

static struct buffer copy_answer(void)
{
    struct buffer copy = BUFFER_MAX(1 << 20);
    struct error err;

    pthread_mutex_lock(&mutex);
    FUZZ_CHECK(buffer_append(&copy, answer.data, answer.len, &err));
    pthread_mutex_unlock(&mutex);
    return copy;
}

static void set_answer(struct bytes data)
{
    pthread_mutex_lock(&mutex);
    answer = data;
    pthread_mutex_unlock(&mutex);
}

static void serve(int fd)
{
    char head[4096];
    size_t len = 0;

    while (len < sizeof(head) && memmem(head, len, "\r\n\r\n", 4) == NULL) {
        ssize_t n = recv(fd, head + len, sizeof(head) - len, 0);
        if (n <= 0)
            return;
        len += (size_t)n;
    }
    CLEANUP(buffer_done) struct buffer copy = copy_answer();
    for (size_t sent = 0; sent < copy.len;) {
        ssize_t n = send(fd, copy.data + sent, copy.len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    /* mostly an orderly end, which no unread byte of the request turns into a reset */
    shutdown(fd, SHUT_WR);
    while (recv(fd, head, sizeof(head), MSG_DONTWAIT) > 0)
        ;
}

static void *run_server(void *arg)
{
    for (;;) {
        CLEANUP_CLOSE int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        serve(fd);
    }
}

static void start(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct error err = {0};
    pthread_t thread;

    signal(SIGPIPE, SIG_IGN);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 16) == 0);
    FUZZ_CHECK(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", ntohs(address.sin_port));
    /* without the store around it, which seals */
    libs3 = store_libs3_open(&(struct store_options){.s3 = {.endpoint = url,
                                                            .region = "us-east-1",
                                                            .access_key = "key",
                                                            .secret_key = "secret",
                                                            .session_token = ""}},
                             "bucket", &err);
    FUZZ_CHECK(libs3 != NULL);
    client = http_client_new(&(struct http_client_options){.ca_file = ""}, &err);
    FUZZ_CHECK(client != NULL && pthread_create(&thread, NULL, run_server, NULL) == 0);
    pthread_detach(thread);
}

/* "name: value" lines, the names in lower case: what those rely on who read them. */
static void check_headers(struct bytes headers)
{
    size_t count = 0;

    FUZZ_CHECK(headers.len <= 65536);
    while (headers.len > 0) {
        FUZZ_CHECK(headers.data[headers.len - 1] == '\n');
        struct bytes line = fuzz_until(&headers, "\n");
        struct bytes name = fuzz_until(&line, ": ");
        FUZZ_CHECK(name.len > 0 && memchr(name.data, ':', name.len) == NULL);
        for (size_t i = 0; i < name.len; i++)
            FUZZ_CHECK(name.data[i] < 'A' || name.data[i] > 'Z');
        count++;
    }
    FUZZ_CHECK(count <= HTTP_REPLY_HEADERS_MAX);
}

static bool call_ours(const char *method, struct http_reply *reply, struct error *err)
{
    const struct http_call call = {.method = method,
                                   .url = url,
                                   .body = bytes_of("data", strcmp(method, "PUT") == 0 ? 4 : 0),
                                   .deadline_ms = clock_monotonic_ms() + DEADLINE_MS,
                                   .max_reply_bytes = REPLY_MAX};

    return http_client_call(client, &call, reply, err);
}

/* One attempt, as the driver makes it. */
static bool call_libs3(const char *method, struct http_reply *reply, struct error *err)
{
    const struct bucket_call call = {.method = method,
                                     .key = "k",
                                     .query = "",
                                     .body = bytes_of("data", strcmp(method, "PUT") == 0 ? 4 : 0),
                                     .deadline_ms = clock_monotonic_ms() + DEADLINE_MS};

    const struct bucket_attempt attempt = {.call = &call};

    return libs3->dialect->send(libs3, &attempt, reply, err);
}

static void call_remote(void)
{
    struct byte_budget budget = {.max = 1 << 20};
    const struct grpc_remote call = {.address = url + strlen("http://"),
                                     .method = "/image_pipeline.ImageUploader/Upload",
                                     .deadline_ms = clock_monotonic_ms() + DEADLINE_MS,
                                     .max_reply_bytes = REPLY_MAX,
                                     .budget = &budget};
    ImagePipeline__UploadRequest in = IMAGE_PIPELINE__UPLOAD_REQUEST__INIT;
    struct grpc_message message = {0};
    struct error err = {0};

    in.image_data = grpc_bytes(bytes_of("data", 4));
    if (!grpc_remote_call(client, &call, &in.base, &image_pipeline__upload_response__descriptor,
                          &message, &err))
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE, ERROR_TOO_LARGE, ERROR_BAD_REQUEST,
                         ERROR_OVERLOADED);
    grpc_message_done(&message);
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = {"GET", "PUT", "HEAD", "DELETE"};
    struct bytes in = bytes_of(data, size);
    uint8_t how = fuzz_byte(&in);
    const char *method = methods[how % 4];
    struct http_reply reply = {0};
    struct error err = {0};
    char value[64];

    if (client == NULL)
        start();
    set_answer(in);
    if ((how & 8) != 0) {
        call_remote();
        set_answer(bytes_of(NULL, 0));
        return 0;
    }
    bool ours = (how & 4) == 0;
    if (ours ? call_ours(method, &reply, &err) : call_libs3(method, &reply, &err)) {
        FUZZ_CHECK(reply.status >= 200 && reply.status <= 999);
        FUZZ_CHECK(memmem(in.data, in.len, "\n\r", 2) != NULL ||
                   memmem(in.data, in.len, "\n\n", 2) != NULL); /* the headers ended */
        FUZZ_CHECK(reply.body.len <= (ours ? REPLY_MAX : 1 << 20));
        FUZZ_CHECK(strcmp(method, "HEAD") != 0 || reply.body.len == 0);
        check_headers(buffer_view(&reply.headers));
        if (http_reply_header(&reply, "ETag", value, sizeof(value)))
            FUZZ_CHECK(strlen(value) < sizeof(value) && strchr(value, '\n') == NULL);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE, ERROR_TOO_LARGE);
    }
    http_reply_done(&reply);
    set_answer(bytes_of(NULL, 0));
    return 0;
}
