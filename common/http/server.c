#include "http/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "base/threads.h"
#include "http/connections.h"
#include "http/listener.h"
#include "http/refusal.h"

#include <microhttpd.h>
#include <poll.h>
#include <string.h>
#include <strings.h>

/* MHD_Result came with 0.9.71; both Debian versions have it. */

enum {
    POOL_BYTES = 16384,
    SILENCE_S = 120, /* libmicrohttpd's own timeout, behind connections.h's */
    FIELDS_MAX = 64,
};

struct server {
    struct server_options options;
    struct MHD_Daemon *daemon;
    struct connections *connections;
    int port;
    _Atomic int inflight;
    _Atomic int working; /* of these, on routes that are not light */
    atomic_bool draining;
    _Atomic int64_t cut_ms; /* no request's deadline is later than this */
};

/* What `*state` is at a request's first callback when its URL has a NUL: libmicrohttpd decodes a
 * path to a C string, which would end there. */
static char nul_in_url;

/* One request, from the end of its headers to the end of its reply. */
struct exchange {
    struct server *server;
    struct connection *connection;
    const struct route *route; /* NULL when refused before one was found */
    struct request req;
    struct http_field headers[FIELDS_MAX], query[FIELDS_MAX];
    size_t header_count, query_count;
    bool fields_ok;
    char id[REQUEST_ID_MAX + 1];
    double started_s;
    int64_t charged;
    int status;
    size_t reply_bytes;
    bool inflight; /* counted in server->inflight */
    bool working;  /* … and in server->working */
    bool replied;
    bool refused; /* answered before its body was read */
};

static const char version_header[] = "darkroom/" DARKROOM_VERSION;

/* ---- reading the request ---- */

static enum MHD_Result add_field(struct exchange *x, struct http_field *fields, size_t *count,
                                 struct http_field field)
{
    if (*count == FIELDS_MAX) {
        x->fields_ok = false;
        return MHD_NO;
    }
    fields[(*count)++] = field;
    return MHD_YES;
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *key,
                                size_t key_size, const char *value, size_t value_size)
{
    struct exchange *x = cls;
    struct http_field field = {.name = key, .value = value != NULL ? value : ""};

    /* a NUL inside would make two readers see two values */
    if (strlen(key) != key_size || strlen(field.value) != value_size) {
        x->fields_ok = false;
        return MHD_NO;
    }
    return kind == MHD_HEADER_KIND ? add_field(x, x->headers, &x->header_count, field)
                                   : add_field(x, x->query, &x->query_count, field);
}

static void choose_id(struct exchange *x)
{
    const char *given = request_header(&x->req, "X-Request-Id");

    if (given != NULL && request_id_is_valid(given))
        snprintf(x->id, sizeof(x->id), "%s", given);
    else if (!string_uuid(x->id))
        snprintf(x->id, sizeof(x->id), "%llx", (unsigned long long)clock_monotonic_ms());
    x->req.id = x->id;
}

static void read_request(struct exchange *x, struct MHD_Connection *mhd, const char *url,
                         const char *method)
{
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, on_field, x);
    MHD_get_connection_values_n(mhd, MHD_GET_ARGUMENT_KIND, on_field, x);
    x->req = (struct request){
        .method = method,
        .path = url,
        .route = "",
        .argument = "",
        .headers = x->headers,
        .header_count = x->header_count,
        .query = x->query,
        .query_count = x->query_count,
        .budget = x->server->options.budget,
    };
    const char *trace = request_header(&x->req, "traceparent");
    x->req.traceparent = trace != NULL && traceparent_is_valid(trace) ? trace : "";
    choose_id(x);
}

/* ---- deciding at the headers ---- */

/* Count it first and look then: a drain that has begun either is seen here, or waits for this. */
static void begin_flight(struct exchange *x)
{
    x->inflight = true;
    atomic_fetch_add(&x->server->inflight, 1);
}

static void end_flight(struct exchange *x)
{
    if (x->inflight)
        atomic_fetch_sub(&x->server->inflight, 1);
    if (x->working)
        atomic_fetch_sub(&x->server->working, 1);
    x->inflight = x->working = false;
}

static bool may_work(struct exchange *x, struct error *err)
{
    struct server *s = x->server;
    int others = atomic_fetch_add(&s->working, 1);

    x->working = true;
    if (atomic_load(&s->draining))
        return error_set(err, ERROR_SHUTTING_DOWN, "shutting down");
    if (connections_over_limit(s->connections))
        return error_set(err, ERROR_OVERLOADED, "more than %lld connections",
                         (long long)s->options.max_connections);
    if (others >= s->options.max_inflight)
        return error_set(err, ERROR_OVERLOADED, "%lld requests in flight",
                         (long long)s->options.max_inflight);
    return s->options.admit == NULL || s->options.admit(s->options.app, err);
}

static bool check_headers(struct exchange *x, const char *http_version, struct error *err)
{
    int64_t max = x->server->options.max_body_bytes;
    int64_t length;

    if (!x->fields_ok)
        return error_set(err, ERROR_BAD_REQUEST,
                         "more than %d header fields or parameters, or a NUL in the URL",
                         FIELDS_MAX);
    if (!request_framing_check(x->headers, x->header_count, strcmp(http_version, "HTTP/1.1") != 0,
                               err))
        return false;
    const char *text = request_header(&x->req, "Content-Length");
    if (text != NULL && string_to_int64(text, 0, INT64_MAX, &length) && length > max)
        return error_set(err, ERROR_TOO_LARGE, "the body is larger than %lld bytes",
                         (long long)max);
    return true;
}

static bool accept_headers(struct exchange *x, const char *http_version, struct error *err)
{
    const struct server_options *o = &x->server->options;

    if (!check_headers(x, http_version, err))
        return false;
    if (strcmp(x->req.method, "OPTIONS") != 0) {
        x->route = router_find(o->routes, o->route_count, x->req.method, x->req.path,
                               &x->req.argument, err);
        if (x->route == NULL)
            return false;
        x->req.route = x->route->pattern;
    }
    begin_flight(x);
    return x->route == NULL || x->route->light || may_work(x, err);
}

static bool expects_body(const struct request *req)
{
    const char *length = request_header(req, "Content-Length");

    return request_header(req, "Transfer-Encoding") != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

/* ---- answering ---- */

static bool origin_is_allowed(const char *origins, const char *origin)
{
    size_t len = strlen(origin);

    if (strcmp(origins, "*") == 0)
        return true;
    for (const char *p = origins; *p != '\0'; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", ");
        if (n == len && strncasecmp(p, origin, n) == 0)
            return true;
        p += n;
    }
    return false;
}

static void add_cors(const struct exchange *x, struct reply *reply)
{
    const char *origin = request_header(&x->req, "Origin");
    const char *origins = x->server->options.cors_origins;

    if (*origins == '\0')
        return;
    if (strcmp(origins, "*") != 0)
        reply_add_header(reply, "Vary", "Origin");
    if (origin == NULL || strlen(origin) >= REPLY_HEADER_VALUE_MAX ||
        !origin_is_allowed(origins, origin))
        return;
    reply_add_header(reply, "Access-Control-Allow-Origin", "%s",
                     strcmp(origins, "*") == 0 ? "*" : origin);
    reply_add_header(reply, "Access-Control-Expose-Headers", "ETag, Retry-After, X-Request-Id");
}

static struct reply preflight(struct exchange *x)
{
    const struct server_options *o = &x->server->options;
    char allow[ROUTER_ALLOW_MAX];
    struct error err;

    router_allow(o->routes, o->route_count, x->req.path, allow);
    if (*allow == '\0') {
        error_set(&err, ERROR_NOT_FOUND, "no such path; GET / lists what there is");
        return reply_error(&err);
    }
    struct reply reply = reply_empty(204);
    reply_add_header(&reply, "Allow", "%s", allow);
    if (*o->cors_origins != '\0') {
        reply_add_header(&reply, "Access-Control-Allow-Methods", "%s", allow);
        reply_add_header(&reply, "Access-Control-Allow-Headers",
                         "Content-Type, X-Request-Id, traceparent");
        reply_add_header(&reply, "Access-Control-Max-Age", "600");
    }
    return reply;
}

/* An error's body is made here, where the request id is known; its details go to the log. */
static void finish_error(struct exchange *x, struct reply *reply)
{
    const struct server_options *o = &x->server->options;
    char allow[ROUTER_ALLOW_MAX];
    struct error oom;

    if (reply->error.code == ERROR_NONE)
        return;
    if (reply->error.code == ERROR_METHOD_NOT_ALLOWED) {
        router_allow(o->routes, o->route_count, x->req.path, allow);
        reply_add_header(reply, "Allow", "%s", allow);
    }
    if (reply->status >= 500)
        log_warning(reply->error.message, F("error", error_slug(reply->error.code)),
                    F("request_id", x->id), F("route", x->req.route));
    if (!reply_problem(&reply->error, x->id, &reply->body, &oom))
        buffer_done(&reply->body); /* the status alone must do */
}

static enum MHD_Result send_reply(struct exchange *x, struct MHD_Connection *mhd,
                                  struct reply *reply)
{
    finish_error(x, reply);
    add_cors(x, reply);
    bool empty = reply->body.len == 0;
    x->status = reply->status;
    x->reply_bytes = reply->body.len;
    x->charged = reply->charged_bytes;
    x->replied = true;

    struct MHD_Response *response = MHD_create_response_from_buffer(
        reply->body.len, reply->body.data, empty ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        reply_done(reply);
        return MHD_NO;
    }
    if (!empty)
        reply->body = (struct buffer){0}; /* libmicrohttpd frees it */
    else
        reply_done(reply);

    bool ok = MHD_add_response_header(response, "X-Request-Id", x->id) == MHD_YES &&
              MHD_add_response_header(response, "Server", version_header) == MHD_YES;
    if (ok && reply->content_type != NULL && !empty)
        ok = MHD_add_response_header(response, "Content-Type", reply->content_type) == MHD_YES;
    for (size_t i = 0; ok && i < reply->header_count; i++)
        ok = MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value) ==
             MHD_YES;
    if (ok && (reply->close || atomic_load(&x->server->draining)))
        ok = MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    connection_begin_reply(x->connection, x->reply_bytes);
    enum MHD_Result result =
        ok ? MHD_queue_response(mhd, (unsigned)reply->status, response) : MHD_NO;
    MHD_destroy_response(response);
    return result;
}

/* Answer before the body was read: the connection ends, but only once the client had its chance to
 * see the answer. */
static enum MHD_Result refuse(struct exchange *x, struct MHD_Connection *mhd, struct reply *reply)
{
    reply->close = true;
    x->refused = true;
    return send_reply(x, mhd, reply);
}

static struct reply handle(struct exchange *x, struct bytes body)
{
    struct server *s = x->server;

    if (strcmp(x->req.method, "OPTIONS") == 0)
        return preflight(x);
    x->req.body = body;
    int64_t deadline = clock_monotonic_ms() + s->options.request_timeout_ms;
    int64_t cut = atomic_load(&s->cut_ms);
    x->req.deadline_ms = deadline < cut ? deadline : cut;
    return x->route->handle(s->options.app, &x->req);
}

/* ---- libmicrohttpd's callbacks ---- */

static enum MHD_Result on_headers(struct server *s, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *http_version, void **state)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct exchange *x = calloc(1, sizeof(*x));
    struct error err = {0};
    bool nul = *state == &nul_in_url;

    *state = NULL;
    if (x == NULL || info == NULL || info->socket_context == NULL) {
        free(x);
        return MHD_NO;
    }
    *state = x;
    x->server = s;
    x->connection = info->socket_context;
    x->started_s = clock_monotonic_s();
    x->fields_ok = !nul;
    read_request(x, mhd, url, method);

    if (accept_headers(x, http_version, &err)) {
        connection_begin_body(x->connection, x->id);
        return MHD_YES;
    }
    end_flight(x);
    struct reply reply = reply_error(&err);
    if (expects_body(&x->req) || err.code == ERROR_OVERLOADED || err.code == ERROR_BAD_REQUEST)
        return refuse(x, mhd, &reply);
    return send_reply(x, mhd, &reply);
}

static enum MHD_Result on_body(struct exchange *x, const char *data, size_t *len)
{
    struct error err = {0};

    switch (connection_append_body(x->connection, data, *len, &err)) {
    case CONNECTION_APPENDED:
    case CONNECTION_ANSWERED:
        *len = 0;
        return MHD_YES;
    case CONNECTION_FAILED:
        break;
    }
    /* no response can be queued while the upload goes on: answer on the socket, discard the rest */
    connection_refuse(x->connection, &err);
    *len = 0;
    return MHD_YES;
}

static enum MHD_Result on_complete(struct exchange *x, struct MHD_Connection *mhd)
{
    struct bytes body;

    if (!connection_begin_handling(x->connection, &body))
        return MHD_NO; /* answered already */
    metric_observe(METRIC_STAGE_DURATION, "stage=\"receive\"", clock_monotonic_s() - x->started_s);
    struct reply reply = handle(x, body);
    connection_drop_body(x->connection);
    return send_reply(x, mhd, &reply);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *http_version, const char *data,
                                 size_t *len, void **state)
{
    struct exchange *x = *state;

    if (*state == NULL || *state == &nul_in_url)
        return on_headers(cls, mhd, url, method, http_version, state);
    if (*len > 0)
        return on_body(x, data, len);
    return x->replied ? MHD_YES : on_complete(x, mhd);
}

static void *on_url(void *cls, const char *url, struct MHD_Connection *mhd)
{
    (void)cls;
    (void)mhd;
    return strstr(url, "%00") != NULL ? &nul_in_url : NULL;
}

static void log_access(const struct exchange *x, double seconds, bool sent)
{
    char http[3072];
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:o, s:o, s:s*}", "requestMethod", x->req.method, "requestUrl",
        x->req.path, "status", x->status, "latency", json_sprintf("%.6fs", seconds), "responseSize",
        json_sprintf("%zu", x->reply_bytes), "userAgent", request_header(&x->req, "User-Agent"));

    size_t n = json != NULL ? json_dumpb(json, http, sizeof(http) - 1, JSON_COMPACT) : 0;
    json_decref(json);
    if (n == 0 || n >= sizeof(http))
        n = (size_t)snprintf(http, sizeof(http), "{}");
    http[n] = '\0';
    char trace[33] = "";
    if (*x->req.traceparent != '\0')
        memcpy(trace, x->req.traceparent + 3, 32);
    struct log_field fields[] = {
        F("method", x->req.method),
        F("path", x->req.path),
        F("status", x->status),
        F("seconds", seconds),
        F("request_id", x->id),
        F("sent", sent),
        log_field_raw("httpRequest", http),
        *trace != '\0' ? F("logging.googleapis.com/trace", (const char *)trace) : LOG_END,
        LOG_END,
    };
    log_write(x->route != NULL && x->route->light ? LOG_DEBUG : LOG_INFO, "request", fields);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **state,
                         enum MHD_RequestTerminationCode how)
{
    struct exchange *x = *state;
    char labels[METRIC_LABELS_MAX];

    (void)cls;
    (void)mhd;
    if (*state == NULL || *state == &nul_in_url)
        return;
    *state = NULL;
    double seconds = clock_monotonic_s() - x->started_s;
    int refused = connection_refused_status(x->connection);
    if (refused != 0)
        x->status = refused;
    if (x->status == 0)
        x->status = 499; /* the client went away before there was an answer (nginx's number) */
    const char *route = *x->req.route != '\0' ? x->req.route : "none";
    snprintf(labels, sizeof(labels), "route=\"%s\",code=\"%d\"", route, x->status);
    metric_add(METRIC_HTTP_REQUESTS, labels, 1);
    snprintf(labels, sizeof(labels), "route=\"%s\"", route);
    metric_observe(METRIC_HTTP_DURATION, labels, seconds);
    log_access(x, seconds, how == MHD_REQUEST_TERMINATED_COMPLETED_OK);

    byte_budget_give(x->server->options.budget, x->charged);
    end_flight(x);
    /* here and not when the connection is closed: that is told on the thread that accepts */
    if (x->refused && how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        connection_linger(x->connection);
    else
        connection_end_request(x->connection);
    free(x);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *s = cls;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *socket_context = info != NULL ? connections_add(s->connections, info->connect_fd) : NULL;
    } else if (*socket_context != NULL) {
        connections_remove(*socket_context);
        *socket_context = NULL;
    }
}

static void on_log(void *cls, const char *fmt, va_list args)
{
    (void)cls; /* libmicrohttpd tells of every client that goes away: not worth a line each */
    (void)fmt;
    (void)args;
}

/* ---- starting and stopping ---- */

static struct MHD_Daemon *start_daemon(struct server *s, int fd)
{
    return MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
            MHD_USE_ITC | MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_URI_LOG_CALLBACK, on_url, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(s->options.max_connections + CONNECTIONS_SPARE),
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)POOL_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)THREAD_IO_STACK_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
}

struct server *server_start(const struct server_options *options, struct error *err)
{
    struct server *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        error_oom(err);
        return NULL;
    }
    s->options = *options;
    atomic_store(&s->cut_ms, INT64_MAX);
    int fd = listener_raise_fd_limit(options->max_connections, err)
                 ? listener_open(options->host, options->port, err)
                 : -1;
    if (fd >= 0) {
        s->port = listener_port(fd);
        s->connections = connections_new(
            &(struct connections_options){
                .max_connections = options->max_connections,
                .max_body_bytes = options->max_body_bytes,
                .budget = options->budget,
            },
            err);
        if (options->ready != NULL)
            *options->ready = s;
        s->daemon = s->connections != NULL ? start_daemon(s, fd) : NULL;
        if (s->daemon != NULL)
            return s;
        if (s->connections != NULL)
            error_set(err, ERROR_CONFIG, "libmicrohttpd did not start");
        close(fd);
    }
    connections_free(s->connections);
    free(s);
    return NULL;
}

int server_port(const struct server *server)
{
    return server->port;
}

int server_inflight(struct server *server)
{
    return atomic_load(&server->inflight);
}

int server_connections(struct server *server)
{
    return connections_count(server->connections);
}

bool server_is_draining(const struct server *server)
{
    return atomic_load(&server->draining);
}

static void wait_for_requests(struct server *s, int64_t deadline_ms)
{
    while (atomic_load(&s->inflight) > 0 && clock_left_ms(deadline_ms) > 0)
        poll(NULL, 0, 5);
}

void server_drain(struct server *s, int64_t deadline_ms)
{
    atomic_store(&s->cut_ms, deadline_ms);
    atomic_store(&s->draining, true);
    connections_cut_bodies(s->connections, deadline_ms);
    wait_for_requests(s, deadline_ms);
}

void server_stop(struct server *s)
{
    enum { BACKLOG_MS = 150, LAST_WORD_MS = 400 };
    struct error err;

    if (s == NULL)
        return;
    atomic_store(&s->draining, true);
    int64_t deadline = clock_monotonic_ms() + LAST_WORD_MS;
    int fd = MHD_quiesce_daemon(s->daemon);
    error_set(&err, ERROR_SHUTTING_DOWN, "shutting down");
    if (fd >= 0)
        refusal_of_backlog(fd, &err, BACKLOG_MS);
    do {
        poll(NULL, 0, 5); /* the accepting thread may have one in its hands */
    } while (connections_any_busy(s->connections) && clock_left_ms(deadline) > 0);
    MHD_stop_daemon(s->daemon);
    connections_free(s->connections);
    free(s);
}
