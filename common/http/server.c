#include "http/server.h"

#include "base/clock.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "http/acceptor.h"
#include "http/admission.h"
#include "http/connections.h"
#include "http/exchange.h"
#include "http/h2.h"
#include "http/refusal.h"

#include <microhttpd.h>
#include <poll.h>
#include <string.h>

/* MHD_Result came with 0.9.71; both Debian versions have it. */

enum {
    FIELD_BYTES = 64, /* a header, cookie or parameter in the pool, beside its text */
    SILENCE_S = 120,  /* libmicrohttpd's own timeout, behind connections.h's */
};

struct server {
    struct server_options options;
    int listen_fd;
    struct acceptor *acceptor;
    struct h2 *h2;
    struct MHD_Daemon *daemon;
    struct connections *connections;
    struct admission admission;
    int port;
};

/* What `*state` is at a request's first callback when its URL has a blank, or a NUL: libmicrohttpd
 * decodes a path to a C string, which would end there. */
static char bad_url;

static const char version_header[] = "darkroom/" DARKROOM_VERSION;

/* ---- libmicrohttpd's callbacks ---- */

static struct connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info != NULL ? info->socket_context : NULL;
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *key,
                                size_t key_size, const char *value, size_t value_size)
{
    struct exchange *x = cls;
    struct exchange_fields *fields = kind == MHD_HEADER_KIND ? &x->headers : &x->query;
    struct http_field field = {.name = key, .value = value != NULL ? value : ""};

    /* a NUL inside would make two readers see two values */
    bool whole = strlen(key) == key_size && strlen(field.value) == value_size;
    if (whole && exchange_add_field(fields, field))
        return MHD_YES;
    if (whole && kind == MHD_HEADER_KIND)
        x->headers_too_large = true;
    else
        x->fields_bad = true;
    return MHD_NO;
}

/* Whether the pool has room for a reply. Without it libmicrohttpd closes and answers nothing. In
 * the pool are the head as it came, a copy of the cookies, and an entry for each field. */
static bool has_room(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *cookies = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Cookie");
    int fields = MHD_get_connection_values(
        mhd, MHD_HEADER_KIND | MHD_COOKIE_KIND | MHD_GET_ARGUMENT_KIND, NULL, NULL);
    size_t used = (info != NULL ? info->header_size : 0) + (cookies != NULL ? strlen(cookies) : 0);

    return used + (size_t)fields * FIELD_BYTES + EXCHANGE_REPLY_BYTES <= EXCHANGE_HEADERS_MAX;
}

/* The reply as libmicrohttpd's, which then owns its body; NULL when out of memory. */
static struct MHD_Response *make_response(const struct exchange *x, struct reply *reply)
{
    bool empty = reply->body.len == 0;
    struct MHD_Response *response = MHD_create_response_from_buffer(
        reply->body.len, reply->body.data, empty ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);

    if (response == NULL || empty)
        reply_done(reply);
    else
        reply->body = (struct buffer){0};
    if (response == NULL)
        return NULL;

    bool ok = MHD_add_response_header(response, "X-Request-Id", x->id) == MHD_YES &&
              MHD_add_response_header(response, "Server", version_header) == MHD_YES;
    if (ok && reply->content_type != NULL && !empty)
        ok = MHD_add_response_header(response, "Content-Type", reply->content_type) == MHD_YES;
    for (size_t i = 0; ok && i < reply->header_count; i++)
        ok = MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value) ==
             MHD_YES;
    if (ok && (reply->close || atomic_load(&x->admission->draining)))
        ok = MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    if (ok)
        return response;
    MHD_destroy_response(response);
    return NULL;
}

static enum MHD_Result send_reply(struct exchange *x, struct MHD_Connection *mhd,
                                  struct reply *reply)
{
    exchange_finish_reply(x, reply);
    struct MHD_Response *response = make_response(x, reply);
    if (response == NULL)
        return MHD_NO;
    connection_begin_reply(x->connection, x->reply_bytes);
    enum MHD_Result result = MHD_queue_response(mhd, (unsigned)reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_headers(struct server *s, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *http_version, void **state)
{
    struct connection *connection = connection_of(mhd);
    struct reply refusal;
    bool bad = *state == &bad_url;

    *state = NULL;
    if (connection == NULL)
        return MHD_NO;
    struct exchange *x = xcalloc(1, sizeof(*x));
    *state = x;
    x->admission = &s->admission;
    x->connection = connection;
    connection_peer(connection, x->peer);
    x->fields_bad = bad;
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, on_field, x);
    MHD_get_connection_values_n(mhd, MHD_GET_ARGUMENT_KIND, on_field, x);
    bool room = has_room(mhd);
    x->headers_too_large |= !room;
    exchange_begin(x, method, url);
    if (exchange_accept(x, strcmp(http_version, "HTTP/1.1") != 0, &refusal))
        return MHD_YES;
    if (room)
        return send_reply(x, mhd, &refusal);
    exchange_refuse_on_socket(x, &refusal);
    return MHD_NO;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *http_version, const char *data,
                                 size_t *len, void **state)
{
    struct exchange *x = *state;
    struct reply reply;

    if (*state == NULL || *state == &bad_url)
        return on_headers(cls, mhd, url, method, http_version, state);
    if (*len > 0) {
        exchange_append_body(x, data, *len);
        *len = 0;
        return MHD_YES;
    }
    if (x->replied)
        return MHD_YES;
    return exchange_handle(x, &reply) ? send_reply(x, mhd, &reply) : MHD_NO;
}

static void *on_url(void *cls, const char *url, struct MHD_Connection *mhd)
{
    (void)cls;
    (void)mhd;
    return strstr(url, "%00") != NULL || strchr(url, ' ') != NULL ? &bad_url : NULL;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **state,
                         enum MHD_RequestTerminationCode how)
{
    struct exchange *x = *state;

    (void)cls;
    if (*state == NULL || *state == &bad_url) {
        /* libmicrohttpd has refused it by itself, and is about to close */
        struct connection *c = connection_of(mhd);
        if (c != NULL && how != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN)
            connection_linger(c);
        return;
    }
    *state = NULL;
    exchange_end(x, how == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct server *s = cls;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *socket_context = info != NULL ? connections_find(s->connections, info->connect_fd) : NULL;
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

/* Strict, save for libmicrohttpd 0.9: there that means the two checks that are ours as well (a
 * blank in the URL, no Host), and the second one makes it forget the 431 that it has just made of
 * cookies for which its pool has no room. */
static int strictness(void)
{
    return strncmp(MHD_get_version(), "0.", 2) != 0;
}

/* Its own limit is never reached: the acceptor's is lower, and at its own it resets. */
static struct MHD_Daemon *start_daemon(struct server *s)
{
    return MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
            MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG,
        0, NULL, NULL, on_access, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_URI_LOG_CALLBACK, on_url, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(s->options.max_connections + 2 * CONNECTIONS_SPARE),
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)EXCHANGE_HEADERS_MAX, MHD_OPTION_THREAD_STACK_SIZE, (size_t)THREAD_IO_STACK_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, strictness(), MHD_OPTION_END);
}

static void take_connection(void *ctx, struct connection *c, int fd, bool http2)
{
    struct server *s = ctx;

    if (http2)
        h2_take(s->h2, c, fd);
    else if (MHD_add_connection(s->daemon, fd, NULL, 0) != MHD_YES)
        connections_remove(c); /* it has closed the socket */
}

static bool start_all(struct server *s, struct error *err)
{
    const struct server_options *o = &s->options;

    s->connections = connections_new(
        &(struct connections_options){
            .max_connections = o->max_connections,
            .max_body_bytes = o->max_body_bytes,
            .body_stall_ms = o->body_stall_ms,
            .body_min_rate = o->body_min_rate,
            .budget = o->budget,
        },
        err);
    s->admission.connections = s->connections;
    if (s->connections == NULL)
        return false;
    s->daemon = start_daemon(s);
    if (s->daemon == NULL)
        return error_set(err, ERROR_CONFIG, "libmicrohttpd did not start");
    s->h2 = h2_start(&s->admission, err);
    if (s->h2 == NULL)
        return false;
    s->acceptor = acceptor_start(
        &(struct acceptor_options){
            .listen_fd = s->listen_fd,
            .connections = s->connections,
            .most = o->max_connections + CONNECTIONS_SPARE,
            .take = take_connection,
            .ctx = s,
        },
        err);
    return s->acceptor != NULL;
}

struct server *server_start(const struct server_options *options, struct error *err)
{
    struct server *s = xcalloc(1, sizeof(*s));

    s->options = *options;
    s->admission.options = &s->options;
    atomic_store(&s->admission.cut_ms, INT64_MAX);
    s->listen_fd = listener_raise_fd_limit(options->max_connections, err)
                       ? listener_open(options->host, options->port, err)
                       : -1;
    if (s->listen_fd >= 0) {
        s->port = listener_port(s->listen_fd);
        if (options->ready != NULL)
            *options->ready = s;
        if (start_all(s, err))
            return s;
        if (options->ready != NULL)
            *options->ready = NULL;
        h2_stop(s->h2);
        if (s->daemon != NULL)
            MHD_stop_daemon(s->daemon);
        close(s->listen_fd);
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
    return atomic_load(&server->admission.inflight);
}

int server_connections(struct server *server)
{
    return connections_count(server->connections);
}

bool server_is_draining(const struct server *server)
{
    return atomic_load(&server->admission.draining);
}

void server_drain(struct server *s, int64_t deadline_ms)
{
    atomic_store(&s->admission.cut_ms, deadline_ms);
    atomic_store(&s->admission.draining, true);
    connections_cut_bodies(s->connections, deadline_ms);
    h2_drain(s->h2);
    while (atomic_load(&s->admission.inflight) > 0 && clock_left_ms(deadline_ms) > 0)
        poll(NULL, 0, 5);
}

void server_stop(struct server *s)
{
    enum { BACKLOG_MS = 150, LAST_WORD_MS = 400 };
    struct error err;

    if (s == NULL)
        return;
    atomic_store(&s->admission.draining, true);
    int64_t deadline = clock_monotonic_ms() + LAST_WORD_MS;
    acceptor_quiesce(s->acceptor);
    error_set(&err, ERROR_SHUTTING_DOWN, "shutting down");
    refusal_of_backlog(s->listen_fd, &err, BACKLOG_MS);
    while (connections_any_busy(s->connections) && clock_left_ms(deadline) > 0)
        poll(NULL, 0, 5);
    acceptor_stop(s->acceptor);
    h2_stop(s->h2);
    MHD_stop_daemon(s->daemon);
    connections_free(s->connections);
    free(s);
}
