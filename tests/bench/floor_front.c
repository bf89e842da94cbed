/* Floor (c): our HTTP server, with what a handler cannot do without (finding the file in the body,
 * SHA-256 over it) and a reply as long as the service's. No access log. floor-front PORT BYTES
 *
 * And what a request costs by itself (request_cost.py): POST /in and bench.Bench/In take bytes and
 * answer with nothing; bench.Bench/Upload gets them in pieces, and puts them together. */
#include "base/clock.h"
#include "base/log.h"
#include "base/strings.h"
#include "darkroom/v1/images.pb-c.h"
#include "grpc/call.h"
#include "grpc/stream.h"
#include "health.pb-c.h"
#include "http/server.h"
#include "http/upload.h"
#include "program.h"

#include <signal.h>
#include <string.h>

enum { REPLY_MAX = 4096, PIECE_MAX = 4 << 20 };

struct app {
    size_t reply_bytes;
};

static struct reply handle(const struct app *app, const struct request *req)
{
    struct error err = {0};
    struct upload upload;
    char text[REPLY_MAX + 1], id[SHA256_HEX_LEN + 1];

    if (!upload_read(req, &upload, &err) || !string_sha256_hex(&upload.file, 1, id, &err))
        return reply_error(&err);
    int n = snprintf(text, sizeof(text), "{\"id\": \"%s\", \"padding\": \"", id);
    size_t len = (size_t)n;
    if (len + 2 < app->reply_bytes) {
        memset(text + len, 'x', app->reply_bytes - len - 2);
        len = app->reply_bytes - 2;
    }
    memcpy(text + len, "\"}", 3);
    return reply_text(200, "application/json", text);
}

static struct reply handle_in(const struct app *app, const struct request *req)
{
    struct error err;

    (void)app;
    if (req->body.len > 0)
        return reply_empty(200);
    error_set(&err, ERROR_BAD_REQUEST, "no bytes");
    return reply_error(&err);
}

/* It has no field that is set. */
static const Grpc__Health__V1__HealthCheckResponse nothing =
    GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

/* ImageRequest is on the wire what google.protobuf.BytesValue is. */
static struct reply handle_call(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    struct error err;

    (void)app;
    if (!grpc_message_read(&darkroom__v1__image_request__descriptor, req, &m, &err))
        return reply_error(&err);
    if (((const Darkroom__V1__ImageRequest *)m.message)->image.len > 0)
        return grpc_reply(req, &nothing.base);
    error_set(&err, ERROR_BAD_REQUEST, "no bytes");
    return reply_error(&err);
}

/* As darkroom.v1.Images/Upload does. */
static bool read_piece(const struct request *req, bool *more, struct error *err)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};

    if (!grpc_read(req, &darkroom__v1__image_request__descriptor, PIECE_MAX, &m, err))
        return false;
    const Darkroom__V1__ImageRequest *in = (const Darkroom__V1__ImageRequest *)m.message;
    *more = in != NULL;
    return in == NULL || rpc_keep(req->stream, bytes_of(in->image.data, in->image.len), err);
}

static struct reply handle_upload(const struct app *app, const struct request *req)
{
    struct error err;

    (void)app;
    for (bool more = true; more;)
        if (!read_piece(req, &more, &err))
            return reply_error(&err);
    if (rpc_kept(req->stream).len > 0)
        return grpc_reply(req, &nothing.base);
    error_set(&err, ERROR_BAD_REQUEST, "no bytes");
    return reply_error(&err);
}

static const struct rpc_protocol *const protocols[] = {&grpc_protocol, &grpc_web_protocol,
                                                       &connect_protocol, NULL};
static const struct route routes[] = {{"POST", "/preprocess", handle, false},
                                      {"POST", "/in", handle_in, false},
                                      {ROUTER_CALL, "/bench.Bench/In", handle_call, false},
                                      {ROUTER_STREAM, "/bench.Bench/Upload", handle_upload, false}};

int main(int argc, char **argv)
{
    struct app app;
    struct byte_budget budget = {.max = INT64_C(1) << 30};
    struct error err = {0};
    sigset_t set;
    int number;

    if (argc != 3)
        die("usage: floor-front PORT BYTES");
    app.reply_bytes = (size_t)number_arg("BYTES", argv[2], 0, REPLY_MAX - 100);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    log_init("floor-front", LOG_WARNING, LOG_TEXT);
    struct server *server = server_start(
        &(struct server_options){
            .host = "127.0.0.1",
            .port = (int)number_arg("PORT", argv[1], 1, 65535),
            .app = &app,
            .routes = routes,
            .route_count = ARRAY_SIZE(routes),
            .max_body_bytes = 1 << 25,
            .body_stall_ms = 10000,
            .max_connections = 1000,
            .max_inflight = 256,
            .request_timeout_ms = 30000,
            .budget = &budget,
            .cors_origins = "",
            .rpc = protocols,
        },
        &err);
    if (server == NULL)
        die("%s", err.message);
    sigwait(&set, &number);
    server_drain(server, clock_monotonic_ms() + 1000);
    server_stop(server);
    return 0;
}
