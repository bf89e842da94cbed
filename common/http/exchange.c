#include "http/exchange.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "http/access_log.h"
#include "http/rpc_stream.h"

#include <string.h>
#include <strings.h>

/* The client went away before there was an answer (nginx's number). */
enum { STATUS_CLIENT_GONE = 499 };

/* ---- reading the request ---- */

bool exchange_add_field(struct exchange_fields *fields, struct http_field field)
{
    if (fields->count == EXCHANGE_FIELDS_MAX)
        return false;
    fields->field[fields->count++] = field;
    return true;
}

static void choose_id(struct exchange *x)
{
    const char *given = request_header(&x->req, "X-Request-Id");

    if (given != NULL && request_id_is_valid(given))
        snprintf(x->id, sizeof(x->id), "%s", given);
    else if (!string_uuid(x->id))
        snprintf(x->id, sizeof(x->id), "%llx", (unsigned long long)clock_monotonic_ms());
    x->req.context.id = x->id;
}

/* The path of a target in absolute form (RFC 9112, 3.2.2), or the target. */
static const char *path_of(const char *target)
{
    size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                    : strncasecmp(target, "https://", 8) == 0 ? 8
                                                              : 0;

    if (scheme == 0)
        return target;
    target += scheme + strcspn(target + scheme, "/");
    return *target != '\0' ? target : "/";
}

static enum error_form form_of(const struct exchange *x)
{
    const char *below = x->admission->options->plain_errors_below;
    size_t len = below != NULL ? strlen(below) : 0;
    bool plain = len > 0 && strncmp(x->req.path, below, len) == 0 &&
                 (x->req.path[len] == '/' || x->req.path[len] == '\0');

    return plain ? ERROR_FORM_PLAIN : ERROR_FORM_PROBLEM;
}

void exchange_begin(struct exchange *x, const char *method, const char *target)
{
    x->started_s = clock_monotonic_s();
    x->req = (struct request){
        .method = method,
        .path = path_of(target),
        .route = "",
        .argument = "",
        .headers = x->headers.field,
        .header_count = x->headers.count,
        .query = x->query.field,
        .query_count = x->query.count,
        .peer = x->peer,
        .context = {.who = x->caller.name,
                    .budget = x->admission->options->budget,
                    .gone = x->gone,
                    .stages = &x->stages},
    };
    const char *trace = request_header(&x->req, "traceparent");
    x->req.context.traceparent = trace != NULL && traceparent_is_valid(trace) ? trace : "";
    choose_id(x);
    x->form = form_of(x);
    x->call = rpc_find(x->admission->options->rpc, &x->req, x->multiplexed);
    x->call_deadline_ms = INT64_MAX;
}

/* ---- deciding at the headers ---- */

static bool is_options(const struct exchange *x)
{
    return strcmp(x->req.method, "OPTIONS") == 0;
}

static bool is_light(const struct exchange *x)
{
    return (x->route->flags & ROUTE_LIGHT) != 0;
}

int64_t exchange_deadline(const struct exchange *x)
{
    int64_t own = clock_monotonic_ms() + x->admission->options->request_timeout_ms;
    int64_t cut = atomic_load(&x->admission->cut_ms);
    int64_t earlier = own < cut ? own : cut;

    return earlier < x->call_deadline_ms ? earlier : x->call_deadline_ms;
}

static bool check_headers(struct exchange *x, bool http_1_0, struct error *err)
{
    if (x->headers_too_large)
        return error_set(
            err, ERROR_HEADERS_TOO_LARGE,
            "too many header fields or cookies: send at most %d fields, and %d bytes with "
            "the URL and what each field and cookie costs",
            EXCHANGE_FIELDS_MAX,
            x->multiplexed ? H2_FIELDS_BYTES_MAX : EXCHANGE_HEADERS_MAX - EXCHANGE_REPLY_BYTES);
    if (x->fields_bad)
        return error_set(err, ERROR_BAD_REQUEST,
                         "more than %d parameters, or a blank or NUL in the URL",
                         EXCHANGE_FIELDS_MAX);
    return request_framing_check(&x->req, http_1_0, &x->content_length, err);
}

static bool check_size(const struct exchange *x, struct error *err)
{
    int64_t max = x->admission->options->max_body_bytes;

    return x->content_length <= max ||
           error_set(err, ERROR_TOO_LARGE, "the body is larger than %lld bytes", (long long)max);
}

static bool check_call(struct exchange *x, struct error *err)
{
    int64_t ms;

    if (!x->call->timeout_ms(&x->req, &ms, err))
        return false;
    if (ms < INT64_MAX)
        x->call_deadline_ms = clock_monotonic_ms() + ms;
    return true;
}

static const struct route *find_route(struct exchange *x, struct error *err)
{
    const struct server_options *o = x->admission->options;
    const struct route *route =
        router_find(o->routes, o->route_count, x->call ? ROUTER_CALL : x->req.method, x->req.path,
                    &x->req.argument, err);

    if (route == NULL && x->call)
        error_set(err, ERROR_NOT_IMPLEMENTED, "there is no method %.128s", x->req.path);
    x->streams = route != NULL && strcmp(route->method, ROUTER_STREAM) == 0;
    if (x->streams && !x->call->trailers) {
        error_set(err, ERROR_NOT_IMPLEMENTED, "%.128s is a stream: gRPC has them, over HTTP/2",
                  x->req.path);
        return NULL;
    }
    return route;
}

static bool check(struct exchange *x, bool http_1_0, struct error *err)
{
    const struct server_options *o = x->admission->options;

    if (!check_headers(x, http_1_0, err) || (x->call && !check_call(x, err)))
        return false;
    if (!is_options(x)) {
        x->route = find_route(x, err);
        if (x->route == NULL)
            return false;
        x->req.route = x->route->pattern;
        x->req.flags = x->route->flags;
        if ((x->req.flags & ROUTE_OLDER) != 0)
            x->form = ERROR_FORM_OLDER;
    }
    if (!check_size(x, err)) /* in the route's form */
        return false;
    bool light = x->route == NULL || is_light(x);
    if (!admission_begin(x->admission, &x->counted, light, err) ||
        (light && x->streams && !admission_begin_watch(x->admission, &x->counted, err)))
        return false;
    x->req.context.deadline_ms = exchange_deadline(x);
    bool ok = o->authorize == NULL || o->authorize(o->app, &x->req, &x->caller, err);
    x->req.context.admin = x->caller.admin;
    return ok;
}

static void begin_body(struct exchange *x)
{
    cors_lines(x->admission->options->cors_origins, &x->req, x->cors);
    connection_set_look(x->connection, &(struct refusal_look){x->cors, x->form, x->call, &x->req});
    connection_has_place(x->connection, x->counted.working);
    connection_begin_body(x->connection, x->id, x->content_length);
}

bool exchange_accept(struct exchange *x, bool http_1_0, struct reply *refusal)
{
    struct error err = {0};

    if (check(x, http_1_0, &err)) {
        begin_body(x);
        return true;
    }
    admission_end(x->admission, &x->counted);
    *refusal = reply_error(&err);
    /* with a body on its way the connection ends, but only once the client had its chance to see
     * the answer */
    x->refused = request_expects_body(&x->req) || err.code == ERROR_OVERLOADED ||
                 err.code == ERROR_BAD_REQUEST || err.code == ERROR_HEADERS_TOO_LARGE;
    refusal->close = x->refused;
    return false;
}

void exchange_refuse_on_socket(struct exchange *x, struct reply *refusal)
{
    begin_body(x);
    connection_refuse(x->connection, &refusal->error);
    reply_done(refusal);
    connection_linger(x->connection);
}

/* ---- the body ---- */

void exchange_append_body(struct exchange *x, const void *data, size_t len)
{
    struct error err = {0};

    if (x->call != NULL && x->call->expect != NULL)
        connection_expect(x->connection, x->call->expect(bytes_of(data, len)));
    /* no response can be queued while the upload goes on: answer on the socket, discard the rest */
    if (connection_append_body(x->connection, data, len, &err) == CONNECTION_FAILED)
        connection_refuse(x->connection, &err);
}

/* ---- answering ---- */

static void allowed_methods(const struct exchange *x, char out[ROUTER_ALLOW_MAX])
{
    const struct server_options *o = x->admission->options;

    router_allow(o->routes, o->route_count, x->req.path, out);
}

bool exchange_confirm(const struct exchange *x, struct error *err)
{
    const struct server_options *o = x->admission->options;

    return is_light(x) || o->confirm == NULL || o->confirm(o->app, &x->req, &x->caller, err);
}

/* The handler sees the call's message as the body. */
static struct reply run_call(struct exchange *x)
{
    CLEANUP(decoded_body_done) struct decoded_body message = {0};
    const struct server_options *o = x->admission->options;
    struct error err;

    if (!x->call->open(&x->req, (size_t)o->max_body_bytes, &message, &err))
        return reply_error(&err);
    x->req.body = message.bytes;
    return x->route->handle(o->app, &x->req);
}

static struct reply run_handler(struct exchange *x, struct bytes body)
{
    const struct server_options *o = x->admission->options;
    char allow[ROUTER_ALLOW_MAX];
    struct error err;

    if (is_options(x)) {
        allowed_methods(x, allow);
        return cors_preflight(o->cors_origins, allow);
    }
    x->req.body = body;
    x->req.context.deadline_ms = exchange_deadline(x);
    if (!exchange_confirm(x, &err))
        return reply_error(&err);
    return x->call ? run_call(x) : x->route->handle(o->app, &x->req);
}

bool exchange_handle(struct exchange *x, struct reply *ret)
{
    struct bytes body;

    if (!connection_begin_handling(x->connection, &body))
        return false;
    stage_took(&x->stages, STAGE_RECEIVE, clock_monotonic_s() - x->started_s);
    *ret = run_handler(x, body);
    connection_drop_body(x->connection);
    return true;
}

/* Its client's deadline is the stream's own; what the handler does with the whole body has
 * rpc_deadline. */
void exchange_handle_stream(struct exchange *x, struct rpc_stream *stream, struct reply *ret)
{
    struct error err;

    x->req.stream = stream;
    if (exchange_confirm(x, &err)) {
        x->req.context.deadline_ms = x->call_deadline_ms;
        *ret = x->route->handle(x->admission->options->app, &x->req);
    } else {
        *ret = reply_error(&err);
    }
    rpc_drop(stream);
    connection_drop_body(x->connection);
}

static void finish_error(const struct exchange *x, struct reply *reply)
{
    char allow[ROUTER_ALLOW_MAX];
    struct error oom;

    if (reply->error.code == ERROR_NONE)
        return;
    if (reply->error.code == ERROR_METHOD_NOT_ALLOWED) {
        allowed_methods(x, allow);
        reply_add_header(reply, "Allow", "%s", allow);
    }
    if (reply->error.code == ERROR_UNAUTHORIZED) /* RFC 6750, 3.1 */
        reply_add_header(reply, "WWW-Authenticate",
                         request_header(&x->req, "Authorization") == NULL
                             ? "Bearer"
                             : "Bearer error=\"invalid_token\"");
    if (reply->status >= 500 && !(x->call && x->route == NULL)) /* that is the caller's mistake */
        log_warning(reply->error.message, F("error", error_slug(reply->error.code)),
                    F("request_id", x->id), F("route", x->req.route));
    reply->content_type = error_form_content_type(x->form);
    if (x->call)
        return; /* its trailers tell */
    if (!reply_error_body(x->form, &reply->error, x->id, &reply->body, &oom))
        buffer_done(&reply->body); /* the status alone must do */
}

/* Of what was asked to work: nobody times a GET by it. */
static void add_timing(const struct exchange *x, struct reply *reply)
{
    char text[STAGES_TEXT_MAX];

    if (strcmp(x->req.method, "POST") != 0)
        return;
    stages_text(&x->stages, text);
    if (*text != '\0')
        reply_add_header(reply, "Server-Timing", "%s", text);
}

void exchange_finish_reply(struct exchange *x, struct reply *reply)
{
    finish_error(x, reply);
    add_timing(x, reply);
    cors_add(x->admission->options->cors_origins, &x->req, reply);
    x->status = reply->status;
    x->charged = reply->charged_bytes;
    x->replied = true;
    if (x->call) /* the log and metrics have the status that REST would have shown */
        x->call->close(&x->req, reply);
    x->reply_bytes = reply->body.len;
}

void exchange_end(struct exchange *x, bool sent)
{
    int refused = connection_refused_status(x->connection);
    int status = refused != 0 ? refused : x->status;

    access_log(&(struct access){
        .req = &x->req,
        .status = status != 0 ? status : STATUS_CLIENT_GONE,
        .reply_bytes = x->reply_bytes,
        .seconds = clock_monotonic_s() - x->started_s,
        .sent = sent,
        .light = x->route != NULL && is_light(x),
    });
    byte_budget_give(x->admission->options->budget, x->charged);
    admission_end(x->admission, &x->counted);
    /* here and not when the connection is closed: that is told on the thread that accepts */
    if (x->refused && sent)
        connection_linger(x->connection);
    else
        connection_end_request(x->connection);
    free(x);
}
