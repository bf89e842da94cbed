/* grpc.testing.TestService on our server, for the interop clients of gRPC and for tests of streams.
 *
 *     test-service [NAME=NUMBER]…     body_max, budget, inflight, stall_ms, rate, grace_ms, jump_ms
 *
 * It prints its port, serves until SIGTERM, and drains. Its clock jumps by jump_ms with each
 * SIGUSR1. Exit status 1: something is still charged when all is over. */
#include "base/clock.h"
#include "base/log.h"
#include "base/strings.h"
#include "grpc/call.h"
#include "grpc/stream.h"
#include "http/server.h"
#include "testing.pb-c.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { MESSAGE_MAX = 32 << 20 };

typedef Grpc__Testing__Payload payload;

/* ---- what calls have in common ---- */

static void echo_metadata(const struct request *req, struct reply *head, struct reply *reply)
{
    static const char initial[] = "x-grpc-test-echo-initial";
    static const char trailing[] = "x-grpc-test-echo-trailing-bin";
    const char *value;

    if (head != NULL && (value = request_header(req, initial)) != NULL)
        reply_add_header(head, initial, "%s", value);
    if (reply != NULL && (value = request_header(req, trailing)) != NULL)
        grpc_add_trailer(reply, trailing, value);
}

/* The status that the client asks for; its codes are not all ours. */
static struct reply echo_status(const Grpc__Testing__EchoStatus *status)
{
    struct reply reply = reply_empty(200);
    char code[16], text[REPLY_TRAILER_VALUE_MAX];

    snprintf(code, sizeof(code), "%d", status->code);
    grpc_message_encode(status->message, text, sizeof(text));
    grpc_add_trailer(&reply, "grpc-status", code);
    grpc_add_trailer(&reply, "grpc-message", text);
    return reply;
}

static struct reply failed(const struct error *err)
{
    return reply_error(err);
}

static bool make_payload(int32_t size, payload *ret, struct error *err)
{
    static uint8_t zeros[MESSAGE_MAX];

    if (size < 0 || size > MESSAGE_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "%d bytes are asked for", size);
    ret->body = (ProtobufCBinaryData){.data = zeros, .len = (size_t)size};
    return true;
}

/* ---- unary ---- */

static struct reply empty_call(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    Grpc__Testing__Empty out = GRPC__TESTING__EMPTY__INIT;
    struct error err = {0};

    if (!grpc_message_read(&grpc__testing__empty__descriptor, req, &m, &err))
        return failed(&err);
    return grpc_reply(req, &out.base);
}

static struct reply unary_call(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    Grpc__Testing__SimpleResponse out = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
    payload body = GRPC__TESTING__PAYLOAD__INIT;
    struct error err = {0};

    if (!grpc_message_read(&grpc__testing__simple_request__descriptor, req, &m, &err))
        return failed(&err);
    const Grpc__Testing__SimpleRequest *in = (const Grpc__Testing__SimpleRequest *)m.message;
    if (!make_payload(in->response_size, &body, &err))
        return failed(&err);
    out.payload = &body;
    struct reply reply = in->response_status != NULL && in->response_status->code != 0
                             ? echo_status(in->response_status)
                             : grpc_reply(req, &out.base);
    echo_metadata(req, &reply, &reply);
    return reply;
}

/* ---- streams ---- */

static bool pause_us(const struct request *req, int32_t us, struct error *err)
{
    int64_t until = clock_monotonic_ms() + us / 1000;

    while (us > 0 && clock_left_ms(until) > 0)
        if (!rpc_wait(req->stream, clock_left_ms(until), err))
            return false;
    return true;
}

static bool send_all(const struct request *req, const Grpc__Testing__StreamingOutputCallRequest *in,
                     struct error *err)
{
    for (size_t i = 0; i < in->n_response_parameters; i++) {
        const Grpc__Testing__ResponseParameters *wanted = in->response_parameters[i];
        Grpc__Testing__StreamingOutputCallResponse out =
            GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
        payload body = GRPC__TESTING__PAYLOAD__INIT;
        out.payload = &body;
        if (!pause_us(req, wanted->interval_us, err) || !make_payload(wanted->size, &body, err) ||
            !grpc_write(req, &out.base, err))
            return false;
    }
    return true;
}

static struct reply streaming_output(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    struct error err = {0};

    echo_metadata(req, rpc_head(req->stream), NULL);
    if (!grpc_read_only(req, &grpc__testing__streaming_output_call_request__descriptor, MESSAGE_MAX,
                        &m, &err) ||
        !send_all(req, (const Grpc__Testing__StreamingOutputCallRequest *)m.message, &err))
        return failed(&err);
    struct reply reply = reply_empty(200);
    echo_metadata(req, NULL, &reply);
    return reply;
}

static struct reply streaming_input(const struct app *app, const struct request *req)
{
    Grpc__Testing__StreamingInputCallResponse out =
        GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;
    struct error err = {0};

    for (bool more = true; more;) {
        CLEANUP(grpc_message_done) struct grpc_message m = {0};
        if (!grpc_read(req, &grpc__testing__streaming_input_call_request__descriptor, MESSAGE_MAX,
                       &m, &err))
            return failed(&err);
        const Grpc__Testing__StreamingInputCallRequest *in =
            (const Grpc__Testing__StreamingInputCallRequest *)m.message;
        more = in != NULL;
        if (more && in->payload != NULL)
            out.aggregated_payload_size += (int32_t)in->payload->body.len;
    }
    return grpc_reply(req, &out.base);
}

static struct reply full_duplex(const struct app *app, const struct request *req)
{
    struct error err = {0};

    echo_metadata(req, rpc_head(req->stream), NULL);
    for (bool more = true; more;) {
        CLEANUP(grpc_message_done) struct grpc_message m = {0};
        if (!grpc_read(req, &grpc__testing__streaming_output_call_request__descriptor, MESSAGE_MAX,
                       &m, &err))
            return failed(&err);
        const Grpc__Testing__StreamingOutputCallRequest *in =
            (const Grpc__Testing__StreamingOutputCallRequest *)m.message;
        more = in != NULL;
        if (more && in->response_status != NULL && in->response_status->code != 0)
            return echo_status(in->response_status);
        if (more && !send_all(req, in, &err))
            return failed(&err);
    }
    struct reply reply = reply_empty(200);
    echo_metadata(req, NULL, &reply);
    return reply;
}

/* ---- the server ---- */

#define METHOD(name) "/grpc.testing.TestService/" name

static const struct route routes[] = {
    {ROUTER_CALL, METHOD("EmptyCall"), empty_call, 0},
    {ROUTER_CALL, METHOD("UnaryCall"), unary_call, 0},
    {ROUTER_STREAM, METHOD("StreamingOutputCall"), streaming_output, 0},
    {ROUTER_STREAM, METHOD("StreamingInputCall"), streaming_input, 0},
    {ROUTER_STREAM, METHOD("FullDuplexCall"), full_duplex, 0},
};

static const struct rpc_protocol *const protocols[] = {&grpc_protocol, NULL};

/* The value of NAME=NUMBER among the arguments. */
static int64_t number(char **argv, const char *name, int64_t fallback)
{
    int64_t value = fallback;

    for (size_t len = strlen(name); *argv != NULL; argv++)
        if (strncmp(*argv, name, len) == 0 && (*argv)[len] == '=' &&
            !string_to_int64(*argv + len + 1, 0, INT64_MAX, &value))
            abort();
    return value;
}

/* Until SIGTERM. */
static void wait_for_the_end(const sigset_t *set, int64_t jump_ms)
{
    int got;

    for (int64_t ahead_ms = 1; sigwait(set, &got) == 0 && got == SIGUSR1;)
        clock_set_ahead(ahead_ms += jump_ms);
}

int main(int argc, char **argv)
{
    const int64_t jump_ms = number(argv, "jump_ms", 0);
    struct byte_budget budget = {.max = number(argv, "budget", 128 << 20)};
    const struct server_options options = {
        .host = "127.0.0.1",
        .routes = routes,
        .route_count = ARRAY_SIZE(routes),
        .max_body_bytes = number(argv, "body_max", MESSAGE_MAX),
        .body_stall_ms = number(argv, "stall_ms", 10000),
        .body_min_rate = number(argv, "rate", 1024),
        .max_connections = 1000,
        .max_inflight = number(argv, "inflight", 256),
        .request_timeout_ms = 30000,
        .budget = &budget,
        .cors_origins = "",
        .rpc = protocols,
    };
    struct error err = {0};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (jump_ms > 0)
        clock_set_ahead(1); /* or who waits would sleep through the first jump */
    log_init("test-service", LOG_WARNING, LOG_TEXT);
    struct server *server = server_start(&options, &err);
    if (server == NULL) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    printf("%d\n", server_port(server));
    fflush(stdout);
    wait_for_the_end(&set, jump_ms);
    server_drain(server, clock_monotonic_ms() + number(argv, "grace_ms", 8000));
    server_stop(server);
    int64_t charged = atomic_load(&budget.used);
    if (charged != 0)
        fprintf(stderr, "%lld bytes are still charged\n", (long long)charged);
    return charged != 0;
}
