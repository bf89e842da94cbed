#include "base/clock.h"
#include "base/xmalloc.h"
#include "http/h2_loop.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* nghttp2 1.52 (Debian 12) has the functions with ssize_t only; 1.64 has both. */

enum {
    WINDOW_BYTES = 1 << 20, /* of a stream: 64 KiB would be 1.3 MB/s at 50 ms */
    CONNECTION_WINDOW_BYTES = 8 << 20,
    RESETS_AT_ONCE = 10000, /* by the client; nghttp2's own 1,000 ends honest ones */
    RESETS_PER_S = 5000,
    ACKS_MAX = 100, /* of PINGs and SETTINGS, not yet sent */
    EVENTS_MAX = 100,
    EVENTS_MS = 10000,
    BEGIN_MS = 10000,
    IDLE_MS = 60000,
    BLOCKED_MS = 30000,
    ANSWER_MS = 20000, /* of a client that is asked whether it is still there */
    DRAIN_MS = 1000,
    CLOSE_MS = 1000,
    READS = 4,         /* of H2_IN_BYTES from one client, then others are looked at */
    ROUNDS = 8,        /* of H2_OUT_BYTES to one client, then others are looked at */
    FRAME_MAX = 17000, /* of one piece of output */
    REPLY_FIELDS = 8,
};

/* ---- ending ---- */

static bool is_too_much(struct h2_rate *rate)
{
    int64_t now = clock_monotonic_ms();

    if (now - rate->since_ms > EVENTS_MS)
        *rate = (struct h2_rate){.since_ms = now};
    return ++rate->count > EVENTS_MAX;
}

/* Say why, and end the connection with all its streams. */
static void give_up(struct h2_session *session, uint32_t code, const char *why)
{
    if (session->given_up)
        return;
    session->given_up = true;
    nghttp2_submit_goaway(session->nghttp2, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session->nghttp2), code,
                          (const uint8_t *)why, strlen(why));
}

void h2_session_end(struct h2_session *session)
{
    give_up(session, NGHTTP2_NO_ERROR, "");
}

static void no_more_streams(struct h2_session *session)
{
    nghttp2_submit_goaway(session->nghttp2, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session->nghttp2),
                          NGHTTP2_NO_ERROR, NULL, 0);
}

void h2_session_drain(struct h2_session *session)
{
    session->drain_ms = clock_monotonic_ms();
    nghttp2_submit_shutdown_notice(session->nghttp2);
}

/* ---- nghttp2's callbacks ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
    struct h2_session *session = ctx;
    int32_t id = frame->hd.stream_id;

    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    /* no clock for these headers: nghttp2 does not tell when a refused stream's have ended */
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST && session->running >= H2_STREAMS_MAX)
        return nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    session->headers_ms = clock_monotonic_ms();
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    nghttp2_session_set_stream_user_data(ng, id, h2_stream_new(session, id));
    return 0;
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *ctx)
{
    struct h2_session *session = ctx;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

    (void)flags;
    if (s == NULL || s->x != NULL) /* refused, or a trailer */
        return 0;
    session->text_bytes -= s->fields.bytes;
    h2_fields_add(&s->fields, bytes_of(name, name_len), bytes_of(value, value_len));
    session->text_bytes += s->fields.bytes;
    if (session->text_bytes > H2_SESSION_TEXT_MAX)
        s->fields.too_large = true;
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
    struct h2_session *session = ctx;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    bool ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;

    if (frame->hd.type == NGHTTP2_PING && !ack && is_too_much(&session->pings))
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
    if (frame->hd.type == NGHTTP2_SETTINGS && ack)
        session->acknowledged = true;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        session->headers_ms = 0;
        session->pings.count = 0;
    }
    if (s == NULL || session->given_up)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        h2_stream_begin(s, ended);
    else if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && ended)
        h2_stream_ended(s);
    return 0;
}

/* Headers that break the rules have reset their stream: on_frame does not see them. */
static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int code, void *ctx)
{
    struct h2_session *session = ctx;

    (void)ng;
    (void)code;
    if (frame->hd.type == NGHTTP2_HEADERS)
        session->headers_ms = 0;
    return 0;
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *ctx)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);

    (void)flags;
    (void)ctx;
    bool taken = s == NULL || h2_stream_data(s, data, len);
    /* what waits for its handler holds up its own stream, not the others */
    return taken ? nghttp2_session_consume(ng, id, len)
                 : nghttp2_session_consume_connection(ng, len);
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t code, void *ctx)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);

    (void)code;
    (void)ctx;
    if (s == NULL)
        return 0;
    nghttp2_session_set_stream_user_data(ng, id, NULL);
    h2_stream_closed(s);
    return 0;
}

/* Streams that we reset for the client's errors are not limited by nghttp2 (CVE-2025-8671). */
static bool is_its_error(uint32_t code)
{
    return code != NGHTTP2_NO_ERROR && code != NGHTTP2_REFUSED_STREAM && code != NGHTTP2_CANCEL;
}

static int on_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *ctx)
{
    struct h2_session *session = ctx;
    int32_t id = frame->hd.stream_id;

    if (frame->hd.type == NGHTTP2_RST_STREAM) {
        if (is_its_error(frame->rst_stream.error_code) && is_too_much(&session->errors))
            give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_errors");
        return 0;
    }
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(ng, id);
    if (s == NULL)
        return 0;
    s->complete = true;
    if (!s->ended) /* an early answer: the client need not send the rest (RFC 9113, 8.1) */
        nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
    return 0;
}

/* nghttp2 copies both, and writes the name in lower case. */
static nghttp2_nv field(const char *name, const char *value)
{
    union {
        const char *in;
        uint8_t *out; /* its type: it does not write there */
    } n = {.in = name}, v = {.in = value};

    return (nghttp2_nv){n.out, v.out, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

/* After the body of a call's reply. */
static void send_trailers(nghttp2_session *ng, int32_t id, const struct reply_call *call)
{
    nghttp2_nv nv[REPLY_TRAILERS_MAX];

    for (size_t i = 0; i < call->trailer_count; i++)
        nv[i] = field(call->trailers[i].name, call->trailers[i].value);
    nghttp2_submit_trailer(ng, id, nv, call->trailer_count);
}

/* What is next of `part`, which stands at `from` in the reply. */
static size_t copy_part(uint8_t *out, size_t size, struct bytes part, size_t from, size_t at)
{
    size_t left = at < from + part.len ? from + part.len - at : 0;
    size_t n = left < size ? left : size;

    if (n > 0)
        memcpy(out, part.data + (at - from), n);
    return n;
}

static ssize_t read_body(nghttp2_session *ng, int32_t id, uint8_t *out, size_t size,
                         uint32_t *flags, nghttp2_data_source *source, void *ctx)
{
    struct h2_stream *s = source->ptr;
    size_t n = s->stream != NULL ? rpc_take(s->stream, out, size) : 0;

    (void)ctx;
    if (n > 0)
        return (ssize_t)n;
    if (s->state != H2_REPLYING)
        return NGHTTP2_ERR_DEFERRED; /* its handler has written all so far */
    const struct reply_call *call = s->reply.call;
    size_t prefix = call != NULL && call->has_message ? REPLY_PREFIX_LEN : 0;
    if (prefix > 0)
        n = copy_part(out, size, bytes_of(call->prefix, prefix), 0, s->sent);
    n += copy_part(out + n, size - n, buffer_view(&s->reply.body), prefix, s->sent + n);
    s->sent += n;
    if (s->sent < prefix + s->reply.body.len)
        return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (call != NULL) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        send_trailers(ng, id, call);
    }
    return (ssize_t)n;
}

/* ---- replies ---- */

/* Written once a second, not for each reply. */
static const char *date(struct h2 *h2)
{
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm tm;

    if (now == h2->date_s)
        return h2->date;
    h2->date_s = now;
    if (gmtime_r(&now, &tm) == NULL ||
        strftime(h2->date, sizeof(h2->date), "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        *h2->date = '\0';
    return h2->date;
}

/* `has`: something follows the head. */
static void send_head(struct h2_stream *s, const struct reply *reply, bool has)
{
    const struct reply_call *call = reply->call;
    nghttp2_nv nv[REPLY_HEADERS_MAX + REPLY_TRAILERS_MAX + REPLY_FIELDS];
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = read_body};
    bool may_have = reply->status != 204 && reply->status != 304;
    char status[16], length[32];
    size_t count = 0;

    snprintf(status, sizeof(status), "%d", reply->status);
    snprintf(length, sizeof(length), "%zu", reply->body.len);
    nv[count++] = field(":status", status);
    nv[count++] = field("date", date(s->session->h2));
    nv[count++] = field("x-request-id", s->x->id);
    nv[count++] = field("server", "darkroom/" DARKROOM_VERSION);
    if (may_have && !s->x->call)
        nv[count++] = field("content-length", length);
    if (reply->content_type != NULL && (s->x->call || reply->body.len > 0))
        nv[count++] = field("content-type", reply->content_type);
    for (size_t i = 0; i < reply->header_count; i++)
        nv[count++] = field(reply->headers[i].name, reply->headers[i].value);
    for (size_t i = 0; call != NULL && !has && i < call->trailer_count; i++)
        nv[count++] = field(call->trailers[i].name, call->trailers[i].value);
    bool is_head = strcmp(s->x->req.method, "HEAD") == 0;
    nghttp2_submit_response(s->session->nghttp2, s->id, nv, count, has && !is_head ? &body : NULL);
}

void h2_session_send_reply(struct h2_stream *s)
{
    const struct reply *reply = &s->reply;
    bool may_have = reply->status != 204 && reply->status != 304;

    if (s->stream != NULL && rpc_has_written(s->stream))
        h2_session_send_more(s); /* and then its trailers */
    else
        send_head(s, reply,
                  reply->call != NULL ? reply->call->has_message : may_have && reply->body.len > 0);
}

void h2_session_send_more(struct h2_stream *s)
{
    if (s->begun) {
        nghttp2_session_resume_data(s->session->nghttp2, s->id);
        return;
    }
    s->begun = true;
    send_head(s, rpc_head(s->stream), true);
}

void h2_session_consume(struct h2_stream *s, size_t bytes)
{
    if (bytes > 0)
        nghttp2_session_consume_stream(s->session->nghttp2, s->id, bytes);
}

void h2_session_continue(struct h2_stream *s)
{
    const nghttp2_nv status = field(":status", "100");

    nghttp2_submit_headers(s->session->nghttp2, NGHTTP2_FLAG_NONE, s->id, NULL, &status, 1, NULL);
}

void h2_session_reset(struct h2_stream *s)
{
    nghttp2_submit_rst_stream(s->session->nghttp2, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
}

/* ---- the socket ---- */

void h2_session_touch(struct h2_session *session)
{
    if (session->dirty)
        return;
    session->dirty = true;
    session->next_dirty = session->h2->dirty;
    session->h2->dirty = session;
}

/* While output waits, nothing is read: who does not read gets no more done. */
static void watch(struct h2_session *session)
{
    uint32_t in = session->unsent == NULL ? EPOLLIN : 0;
    uint32_t out = session->unsent != NULL || session->more ? EPOLLOUT : 0;
    struct epoll_event event = {.events = in | out, .data.ptr = session};

    if (session->watched == event.events)
        return;
    session->watched = event.events;
    epoll_ctl(session->h2->epoll, EPOLL_CTL_MOD, session->fd, &event);
}

/* What the socket takes of it; -1: it is closed. */
static ssize_t send_some(int fd, const uint8_t *data, size_t len)
{
    ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* False: the socket is closed. */
static bool send_unsent(struct h2_session *session)
{
    ssize_t n = send_some(session->fd, session->unsent + session->unsent_at,
                          session->unsent_len - session->unsent_at);

    if (n > 0)
        session->blocked_ms = clock_monotonic_ms();
    session->unsent_at += n > 0 ? (size_t)n : 0;
    if (session->unsent_at == session->unsent_len) {
        free(session->unsent);
        session->unsent = NULL;
    }
    return n >= 0;
}

/* Send one bufferful; what the socket does not take is kept. *ret: of how many bytes. */
static bool send_round(struct h2_session *session, size_t *ret)
{
    uint8_t *out = session->h2->out;
    size_t len = 0;
    const uint8_t *data;
    ssize_t n = 0;

    while (len + FRAME_MAX <= H2_OUT_BYTES &&
           (n = nghttp2_session_mem_send(session->nghttp2, &data)) > 0) {
        memcpy(out + len, data, (size_t)n);
        len += (size_t)n;
    }
    *ret = len;
    ssize_t sent = len > 0 ? send_some(session->fd, out, len) : 0;
    if (n < 0 || sent < 0)
        return false;
    if ((size_t)sent < len) {
        session->unsent_len = len - (size_t)sent;
        session->unsent_at = 0;
        session->unsent = xmalloc(session->unsent_len);
        memcpy(session->unsent, out + sent, session->unsent_len);
        session->blocked_ms = clock_monotonic_ms();
    }
    return true;
}

static void begin_close(struct h2_session *session)
{
    shutdown(session->fd, SHUT_WR);
    session->close_ms = clock_monotonic_ms() + CLOSE_MS;
}

bool h2_session_flush(struct h2_session *session)
{
    size_t len = 1;

    if (session->close_ms != 0)
        return true;
    if (session->unsent != NULL && !send_unsent(session))
        return false;
    for (int i = 0; i < ROUNDS && len > 0 && session->unsent == NULL; i++)
        if (!send_round(session, &len))
            return false;
    session->more = len > 0 && session->unsent == NULL;
    bool over = session->given_up || (nghttp2_session_want_read(session->nghttp2) == 0 &&
                                      nghttp2_session_want_write(session->nghttp2) == 0);
    if (over && session->unsent == NULL && !session->more)
        begin_close(session);
    watch(session);
    return true;
}

/* One read and what comes of it; *ret: of how many bytes. */
static bool read_some(struct h2_session *session, size_t *ret)
{
    struct h2 *h2 = session->h2;
    ssize_t n = recv(session->fd, h2->in, sizeof(h2->in), MSG_DONTWAIT);

    *ret = n > 0 ? (size_t)n : 0;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    if (session->close_ms != 0)
        return true;
    session->heard_ms = clock_monotonic_ms();
    session->asked = false;
    /* after an error its last word may wait to be sent */
    ssize_t taken = nghttp2_session_mem_recv(session->nghttp2, h2->in, (size_t)n);
    if (taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        give_up(session, NGHTTP2_PROTOCOL_ERROR, "");
    else if (taken < 0) /* too many acknowledgements, or continuations */
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, "");
    return h2_session_flush(session);
}

bool h2_session_read(struct h2_session *session)
{
    size_t len = sizeof(session->h2->in);

    for (int i = 0; i < READS && len == sizeof(session->h2->in) && session->unsent == NULL; i++)
        if (!read_some(session, &len))
            return false;
    return true;
}

/* ---- the clocks ---- */

/* A client that has nothing to send, and one that is no more, look alike. False: it does not
 * answer. */
static bool is_there(struct h2_session *session, int64_t now)
{
    int64_t silent = now - session->heard_ms;

    if (session->open == 0 || silent <= IDLE_MS)
        return true;
    if (!session->asked)
        nghttp2_submit_ping(session->nghttp2, NGHTTP2_FLAG_NONE, NULL);
    session->asked = true;
    return silent <= IDLE_MS + ANSWER_MS;
}

bool h2_session_look(struct h2_session *session, int64_t now)
{
    if (session->close_ms != 0)
        return now < session->close_ms;
    if (session->unsent != NULL && now - session->blocked_ms > BLOCKED_MS)
        return false;
    if (!is_there(session, now))
        return false;
    for (struct h2_stream *s = session->streams; s != NULL; s = s->next)
        h2_stream_look(s, now);
    if (session->drain_ms > 0 && now - session->drain_ms > DRAIN_MS) {
        session->drain_ms = -1;
        no_more_streams(session);
    }
    if (!session->acknowledged && now - session->began_ms > BEGIN_MS)
        give_up(session, NGHTTP2_SETTINGS_TIMEOUT, "");
    else if (session->headers_ms != 0 && now - session->headers_ms > BEGIN_MS)
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM, "headers_too_slow");
    else if (session->open == 0 && now - session->since_ms > IDLE_MS)
        h2_session_end(session);
    return h2_session_flush(session);
}

/* ---- making and freeing ---- */

static nghttp2_session *make_nghttp2(struct h2_session *session)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session *ng = NULL;

    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
        nghttp2_option_set_stream_reset_rate_limit(option, RESETS_AT_ONCE, RESETS_PER_S);
        nghttp2_option_set_max_outbound_ack(option, ACKS_MAX);
        nghttp2_option_set_no_auto_window_update(option, 1);
        if (nghttp2_session_server_new2(&ng, callbacks, session, option) != 0)
            ng = NULL;
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return ng;
}

struct h2_session *h2_session_new(struct h2 *h2, struct connection *c, int fd)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, H2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_FIELDS_BYTES_MAX},
    };
    struct h2_session *session = xcalloc(1, sizeof(*session));

    session->h2 = h2;
    session->connection = c;
    session->fd = fd;
    session->watched = EPOLLIN;
    session->began_ms = session->since_ms = session->heard_ms = clock_monotonic_ms();
    session->nghttp2 = make_nghttp2(session);
    if (session->nghttp2 == NULL) {
        free(session);
        return NULL;
    }
    nghttp2_submit_settings(session->nghttp2, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
    nghttp2_session_set_local_window_size(session->nghttp2, NGHTTP2_FLAG_NONE, 0,
                                          CONNECTION_WINDOW_BYTES);
    return session;
}

/* nghttp2 tells of no stream when it ends: the list is ours. */
void h2_session_free(struct h2_session *session)
{
    struct h2_session **at = &session->h2->dirty;

    for (struct h2_stream *s = session->streams, *next; s != NULL; s = next) {
        next = s->next;
        if (!s->closed && s->state != H2_RUNNING) {
            h2_stream_closed(s); /* which frees it */
            continue;
        }
        if (!s->closed)
            h2_stream_closed(s);
        s->session = NULL; /* its handler runs */
    }
    while (session->dirty && *at != session)
        at = &(*at)->next_dirty;
    if (session->dirty)
        *at = session->next_dirty;
    nghttp2_session_del(session->nghttp2);
    free(session->unsent);
    free(session);
}
