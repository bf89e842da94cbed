#include "http/h2_loop.h"

#include "base/clock.h"
#include "base/xmalloc.h"

#include <string.h>
#include <strings.h>

enum {
    DISCARD_MS = 2000,
    DISCARD_BYTES_MIN = 64 * 1024 * 1024,
    REPLY_FREE_BYTES = 4096, /* so much a reply may hold without a charge: health gets through */
};

/* ---- beginning and end ---- */

static void wake(void *ctx)
{
    h2_make_ready(ctx, false);
}

struct h2_stream *h2_stream_new(struct h2_session *session, int32_t id)
{
    struct h2_stream *s = xcalloc(1, sizeof(*s));

    s->h2 = session->h2;
    s->session = session;
    s->id = id;
    h2_fields_init(&s->fields);
    s->next = session->streams;
    if (s->next != NULL)
        s->next->previous = s;
    session->streams = s;
    s->h2->streams++;
    if (session->open++ == 0)
        connection_has_streams(session->connection, true);
    return s;
}

static void free_stream(struct h2_stream *s)
{
    if (s->session != NULL) {
        if (s->next != NULL)
            s->next->previous = s->previous;
        if (s->previous != NULL)
            s->previous->next = s->next;
        else
            s->session->streams = s->next;
    }
    rpc_stream_free(s->stream); /* before what it uses */
    if (s->x != NULL)
        exchange_end(s->x, s->complete);
    if (s->connection != NULL)
        connections_remove(s->connection);
    h2_not_ready(s);
    byte_budget_give(s->h2->admission->options->budget, s->charged);
    reply_done(&s->reply);
    h2_fields_done(&s->fields);
    s->h2->streams--;
    free(s);
}

/* Whoever waits for the client learns that it has gone. */
static void tell_gone(struct h2_stream *s)
{
    struct error err;

    if (s->stream == NULL)
        return;
    error_set(&err, ERROR_UNAVAILABLE, "the client has gone");
    rpc_fail(s->stream, &err);
}

void h2_stream_closed(struct h2_stream *s)
{
    struct h2_session *session = s->session;

    s->closed = true;
    atomic_store(&s->gone, true);
    tell_gone(s);
    session->text_bytes -= s->fields.bytes;
    if (--session->open == 0) {
        session->since_ms = clock_monotonic_ms();
        connection_has_streams(session->connection, false);
    }
    if (s->state != H2_RUNNING)
        free_stream(s);
}

/* ---- answering ---- */

/* What waits until its client has read it counts against the budget; without room for it the answer
 * is a short one. */
static void charge(struct h2_stream *s)
{
    const int64_t held = (int64_t)(s->reply.body.len + s->fields.text.cap) - s->x->charged;
    struct error err;

    if (held <= REPLY_FREE_BYTES)
        return;
    if (byte_budget_take(s->x->admission->options->budget, held)) {
        s->charged = held;
        return;
    }
    byte_budget_give(s->x->admission->options->budget, s->x->charged);
    reply_done(&s->reply);
    error_set(&err, ERROR_OVERLOADED, "no room to keep a reply until it is read");
    s->reply = reply_error(&err);
    exchange_finish_reply(s->x, &s->reply);
}

/* The finished reply goes out. */
static void send_reply(struct h2_stream *s)
{
    s->state = H2_REPLYING;
    charge(s);
    connection_begin_reply(s->connection, s->x->reply_bytes);
    h2_session_send_reply(s);
}

static void answer_refused(struct h2_stream *s)
{
    exchange_finish_reply(s->x, &s->reply);
    send_reply(s);
}

/* Answer now, or when the client has sent its body: curl 7.88 shows no answer that comes earlier.
 * gRPC's clients do. At the end of a drain there is no later. */
static void refuse(struct h2_stream *s, const struct reply *refusal)
{
    const int64_t twice = 2 * s->x->admission->options->max_body_bytes;

    s->reply = *refusal;
    s->state = H2_DISCARDING;
    s->discard_ms = clock_monotonic_ms() + DISCARD_MS;
    s->discard_bytes = twice > DISCARD_BYTES_MIN ? twice : DISCARD_BYTES_MIN;
    if (s->ended || (s->x->call != NULL && s->x->call->trailers) ||
        clock_left_ms(atomic_load(&s->x->admission->cut_ms)) <= 0)
        answer_refused(s);
}

static void refuse_for(struct h2_stream *s, const struct error *err)
{
    struct reply refusal = reply_error(err);

    refuse(s, &refusal);
}

/* False when nobody waits for its reply any more. */
static bool handle_stream(struct h2_stream *s)
{
    exchange_handle_stream(s->x, s->stream, &s->reply);
    if (!atomic_load(&s->gone))
        return true;
    byte_budget_give(s->x->admission->options->budget, s->reply.charged_bytes);
    reply_done(&s->reply);
    return false;
}

static void handle(struct h2_stream *s)
{
    s->has_reply = !atomic_load(&s->gone) &&
                   (s->stream != NULL ? handle_stream(s) : exchange_handle(s->x, &s->reply));
    if (s->has_reply)
        exchange_finish_reply(s->x, &s->reply);
}

static void run_job(struct handler_job *job)
{
    struct h2_stream *s = (struct h2_stream *)job;

    handle(s);
    h2_make_ready(s, true);
}

/* The handler has returned, or was not called: the request had been refused before. */
static void handled(struct h2_stream *s)
{
    struct error err;

    s->state = H2_REPLYING; /* or nobody would free it when it is closed */
    if (s->stream != NULL && rpc_is_stuck(s->stream))
        h2_session_reset(s);
    else if (s->has_reply)
        send_reply(s);
    else if (connection_fate(s->connection, &err) == CONNECTION_REFUSED)
        refuse_for(s, &err);
    else
        h2_session_reset(s);
}

/* What waits for nothing runs here. */
static void run(struct h2_stream *s)
{
    struct error err;

    s->state = H2_RUNNING;
    bool waits =
        s->stream != NULL || (s->x->route != NULL && (s->x->route->flags & ROUTE_LIGHT) == 0);
    if (!waits) {
        handle(s);
        handled(s);
        return;
    }
    s->job.run = run_job;
    s->session->running++;
    if (!handler_threads_run(s->h2->handlers, &s->job, &err)) {
        s->session->running--;
        refuse_for(s, &err);
    }
}

/* ---- what happens to it ---- */

/* Its handler runs while the messages arrive. */
static void begin_stream(struct h2_stream *s)
{
    s->stream = rpc_stream_new(s->x, wake, s);
    if (s->ended)
        rpc_put_end(s->stream);
    run(s);
}

/* Between the client and the handler that runs. */
static void move(struct h2_stream *s)
{
    struct error err;
    enum connection_fate fate = connection_fate(s->connection, &err);

    if (fate == CONNECTION_SHUT_DOWN)
        tell_gone(s);
    else if (fate == CONNECTION_REFUSED)
        rpc_fail(s->stream, &err);
    h2_session_consume(s, rpc_taken(s->stream));
    if (rpc_unsent(s->stream) > 0)
        h2_session_send_more(s);
    h2_session_touch(s->session);
}

void h2_stream_begin(struct h2_stream *s, bool ended)
{
    struct reply refusal;

    s->ended = ended;
    s->connection = connections_add_stream(s->h2->admission->connections, wake, s);
    s->x = xcalloc(1, sizeof(*s->x));
    s->x->admission = s->h2->admission;
    s->x->connection = s->connection;
    connection_peer(s->session->connection, s->x->peer);
    s->x->multiplexed = true;
    s->x->gone = &s->gone;
    h2_fields_begin(&s->fields, s->x);
    if (!exchange_accept(s->x, false, &refusal)) {
        s->x->refused = false; /* that is about the socket */
        refuse(s, &refusal);
        return;
    }
    const char *expect = request_header(&s->x->req, "Expect");
    if (s->x->streams)
        begin_stream(s);
    else if (ended)
        run(s);
    else if (expect != NULL && strcasecmp(expect, "100-continue") == 0)
        h2_session_continue(s);
}

bool h2_stream_data(struct h2_stream *s, const uint8_t *data, size_t len)
{
    if (s->state == H2_RUNNING && s->stream != NULL) {
        rpc_put(s->stream, bytes_of(data, len));
        return false;
    }
    if (s->state == H2_RECEIVING)
        exchange_append_body(s->x, data, len);
    if (s->state != H2_DISCARDING)
        return true;
    s->discard_bytes -= (int64_t)len;
    if (s->discard_bytes < 0)
        answer_refused(s);
    return true;
}

void h2_stream_ended(struct h2_stream *s)
{
    s->ended = true;
    if (s->stream != NULL)
        rpc_put_end(s->stream);
    if (s->state == H2_RECEIVING)
        run(s);
    else if (s->state == H2_DISCARDING)
        answer_refused(s);
}

void h2_stream_ready(struct h2_stream *s, bool has_been_handled)
{
    struct error err;

    if (has_been_handled && s->session != NULL)
        s->session->running--;
    if (has_been_handled && s->closed) {
        free_stream(s);
        return;
    }
    if (s->closed)
        return;
    if (s->state == H2_RUNNING && !has_been_handled) {
        if (s->stream != NULL)
            move(s);
        return;
    }
    if (has_been_handled) {
        handled(s);
    } else {
        enum connection_fate fate = connection_fate(s->connection, &err);
        if (fate == CONNECTION_REFUSED && s->state == H2_RECEIVING)
            refuse_for(s, &err);
        else if (fate == CONNECTION_SHUT_DOWN)
            h2_session_reset(s);
    }
    h2_session_touch(s->session);
}

void h2_stream_drain(struct h2_stream *s)
{
    if (s->stream != NULL)
        rpc_look(s->stream);
}

void h2_stream_look(struct h2_stream *s, int64_t now)
{
    if (s->state == H2_DISCARDING && now >= s->discard_ms)
        answer_refused(s);
}
