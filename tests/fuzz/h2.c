/* What a client sends behind the preface of HTTP/2: requests of REST, calls of gRPC, and their
 * streams. However it ends, nothing is left behind. */
#include "http/h2.h"

#include "base/log.h"
#include "fuzz.h"
#include "grpc/call.h"
#include "grpc/stream.h"
#include "health.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

enum { BODY_MAX = 1 << 16 };

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* The body comes back. */
static struct reply echo(const struct app *app, const struct request *req)
{
    struct buffer body = BUFFER_MAX(BODY_MAX);
    struct error err = {0};

    (void)app;
    FUZZ_CHECK(req->body.len <= BODY_MAX);
    if (!buffer_append(&body, req->body.data, req->body.len, &err))
        return reply_error(&err);
    return reply_buffer(200, "application/octet-stream", &body);
}

/* The bytes come back while they arrive, and are kept. */
static struct reply echo_stream(const struct app *app, const struct request *req)
{
    struct error err = {0};
    uint8_t data[10]; /* it reads so many at a time */
    size_t all = 0;

    (void)app;
    for (size_t n = 1; n > 0; all += n) {
        if (!rpc_read(req->stream, data, sizeof(data), &n, &err) ||
            !rpc_keep(req->stream, bytes_of(data, n), &err) ||
            !rpc_write(req->stream, bytes_of(data, n), &err))
            return reply_error(&err);
    }
    FUZZ_CHECK(rpc_kept(req->stream).len == all);
    return reply_empty(200);
}

/* Messages come back one by one. */
static struct reply echo_messages(const struct app *app, const struct request *req)
{
    struct error err = {0};

    (void)app;
    for (bool more = true; more;) {
        CLEANUP(grpc_message_done) struct grpc_message m = {0};
        if (!grpc_read(req, &grpc__health__v1__health_check_request__descriptor, BODY_MAX, &m,
                       &err))
            return reply_error(&err);
        more = m.message != NULL;
        if (more && !grpc_write(req, m.message, &err))
            return reply_error(&err);
    }
    return reply_empty(200);
}

static const struct route routes[] = {
    {"GET", "/light", echo, true},
    {"POST", "/echo", echo, true},
    {"POST", "/task/{id}", echo, false},
    {ROUTER_CALL, "/s/Light", echo, true},
    {ROUTER_CALL, "/s/Work", echo, false},
    {ROUTER_STREAM, "/s/Bytes", echo_stream, 0},
    {ROUTER_STREAM, "/s/Watch", echo_messages, ROUTE_LIGHT},
};

static const struct rpc_protocol *const protocols[] = {&grpc_protocol, &grpc_web_protocol,
                                                       &connect_protocol, NULL};
static struct byte_budget budget = {.max = 1 << 18};
static const struct server_options options = {
    .routes = routes,
    .route_count = ARRAY_SIZE(routes),
    .max_body_bytes = BODY_MAX,
    .max_connections = 10,
    .max_inflight = 4,
    .request_timeout_ms = 1000,
    .budget = &budget,
    .cors_origins = "*",
    .rpc = protocols,
};
static struct admission admission = {.options = &options, .cut_ms = INT64_MAX};
static struct h2 *h2;

static void begin(void)
{
    struct error err = {0};

    admission.connections =
        connections_new(&(struct connections_options){.max_connections = 10,
                                                      .max_body_bytes = BODY_MAX,
                                                      .body_stall_ms = 10000,
                                                      .body_min_rate = 1,
                                                      .budget = &budget},
                        &err);
    FUZZ_CHECK(admission.connections != NULL);
    log_init("fuzz", LOG_ERROR, LOG_JSON);
    h2 = h2_start(&admission, &err);
    FUZZ_CHECK(h2 != NULL);
}

/* Send it all, and read until the end. */
static void converse(int fd, const uint8_t *data, size_t size)
{
    uint8_t out[1 << 16];
    size_t sent = 0;
    ssize_t n = 1;

    while (n != 0) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < size ? POLLOUT : 0))};
        int ready = poll(&p, 1, 10000);
        if (ready < 0 && errno == EINTR) /* libFuzzer's alarm */
            continue;
        FUZZ_CHECK(ready == 1);
        if (sent < size && (p.revents & POLLOUT) != 0) {
            ssize_t taken = send(fd, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent = taken >= 0 ? sent + (size_t)taken : size; /* it has closed */
            if (sent == size)
                shutdown(fd, SHUT_WR);
        }
        if ((p.revents & (POLLIN | POLLHUP)) != 0)
            n = recv(fd, out, sizeof(out), MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            n = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buffer_done) struct buffer all = BUFFER_MAX(size + sizeof(preface));
    struct error err = {0};
    int fds[2];

    if (h2 == NULL)
        begin();
    FUZZ_CHECK(buffer_append(&all, preface, sizeof(preface) - 1, &err));
    FUZZ_CHECK(buffer_append(&all, data, size, &err));
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    struct connection *c = connections_add(admission.connections, fds[0]);
    FUZZ_CHECK(c != NULL);
    h2_take(h2, c, fds[0]);
    converse(fds[1], all.data, all.len);
    close(fds[1]);
    for (int i = 0; atomic_load(&budget.used) != 0 || atomic_load(&admission.inflight) != 0 ||
                    connections_count(admission.connections) != 0;
         i++) {
        FUZZ_CHECK(i < 10000); /* handlers on their threads end a little later */
        poll(NULL, 0, 1);
    }
    return 0;
}
