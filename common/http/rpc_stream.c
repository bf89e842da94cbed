#include "http/rpc_stream.h"

#include "base/clock.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "http/exchange.h"

#include <string.h>

enum {
    IN_MAX = 4 << 20,    /* nghttp2 lets no more than the window through */
    TAKEN_STEP = 131072, /* so much is read before the client learns of it */
    WAKE_BYTES = 65536,  /* so much the handler waits for at a time; less than the window */
    IDLE_BYTES = 16384,  /* a queue that is empty holds no more memory */
    PATIENCE_MS = 30000, /* as for a socket that takes nothing */
    PATIENCE_BYTES = PATIENCE_MS * CONNECTION_RATE_BYTES_PER_MS,
};

/* Bytes that are put at one end and taken at the other. */
struct queue {
    struct buffer buffer;
    size_t at; /* what has been taken */
};

struct rpc_stream {
    struct exchange *x;
    void (*wake)(void *ctx);
    void *ctx;
    struct reply head;
    struct bytes kept;
    bool written;
    bool whole;            /* the handler has come to the end */
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct queue in, out;
    size_t taken;
    int64_t patience; /* in bytes: what the client takes is added, waiting costs */
    size_t wanted;    /* the handler waits for so many bytes; 0: for none */
    bool ended;       /* the client has sent all */
    bool dropped;     /* nobody reads any more */
    bool stuck;
    struct error failed; /* ERROR_NONE: it has not */
};

/* ---- queues ---- */

static size_t queue_len(const struct queue *q)
{
    return q->buffer.len - q->at;
}

static bool queue_put(struct queue *q, struct bytes data, struct error *err)
{
    struct buffer *b = &q->buffer;

    if (q->at > 0 && b->cap - b->len < data.len) {
        memmove(b->data, b->data + q->at, queue_len(q));
        b->len -= q->at;
        q->at = 0;
    }
    return buffer_append(b, data.data, data.len, err);
}

static size_t queue_take(struct queue *q, void *out, size_t size)
{
    size_t n = queue_len(q) < size ? queue_len(q) : size;

    if (n > 0)
        memcpy(out, q->buffer.data + q->at, n);
    q->at += n;
    if (queue_len(q) > 0)
        return n;
    q->at = q->buffer.len = 0;
    if (q->buffer.cap > IDLE_BYTES) {
        size_t max = q->buffer.max;
        buffer_done(&q->buffer);
        q->buffer.max = max;
    }
    return n;
}

/* ---- beginning and end ---- */

static struct byte_budget *budget_of(const struct rpc_stream *p)
{
    return p->x->admission->options->budget;
}

struct rpc_stream *rpc_stream_new(struct exchange *x, void (*wake)(void *ctx), void *ctx)
{
    struct rpc_stream *p = xcalloc(1, sizeof(*p));

    p->x = x;
    p->wake = wake;
    p->ctx = ctx;
    p->head = reply_empty(200);
    p->in.buffer.max = IN_MAX;
    p->out.buffer.max = 2 * (size_t)RPC_OUT_MAX;
    p->patience = PATIENCE_BYTES;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->changed, NULL);
    connection_is_read(x->connection);
    return p;
}

void rpc_drop(struct rpc_stream *p)
{
    pthread_mutex_lock(&p->mutex);
    byte_budget_give(budget_of(p), (int64_t)queue_len(&p->in));
    buffer_done(&p->in.buffer);
    p->in = (struct queue){0};
    p->dropped = true;
    pthread_mutex_unlock(&p->mutex);
}

void rpc_stream_free(struct rpc_stream *p)
{
    if (p == NULL)
        return;
    rpc_drop(p);
    buffer_done(&p->out.buffer);
    reply_done(&p->head);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->mutex);
    free(p);
}

/* ---- the loop's side ---- */

/* Called locked. */
static void fail(struct rpc_stream *p, enum error_code code, const char *message)
{
    if (p->failed.code == ERROR_NONE)
        error_set(&p->failed, code, "%s", message);
    pthread_cond_signal(&p->changed);
}

void rpc_fail(struct rpc_stream *p, const struct error *why)
{
    pthread_mutex_lock(&p->mutex);
    fail(p, why->code, why->message);
    pthread_mutex_unlock(&p->mutex);
}

void rpc_look(struct rpc_stream *p)
{
    pthread_mutex_lock(&p->mutex);
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

void rpc_put(struct rpc_stream *p, struct bytes data)
{
    struct connections *all = p->x->admission->connections;
    int64_t charge = (int64_t)data.len;
    struct error oom;

    /* first, as it may end this very stream */
    bool charged = connections_take_bytes(all, charge);
    pthread_mutex_lock(&p->mutex);
    bool wanted = p->failed.code == ERROR_NONE && !p->dropped;
    bool ok = charged && wanted && queue_put(&p->in, data, &oom);
    if (wanted && !ok)
        fail(p, ERROR_OVERLOADED, "too many bytes are being received at once");
    bool enough = p->wanted > 0 && queue_len(&p->in) >= p->wanted;
    pthread_mutex_unlock(&p->mutex);
    if (enough)
        pthread_cond_signal(&p->changed);
    else
        connection_heard(p->x->connection);
    if (charged && !ok)
        byte_budget_give(budget_of(p), charge);
}

void rpc_put_end(struct rpc_stream *p)
{
    pthread_mutex_lock(&p->mutex);
    p->ended = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
}

size_t rpc_taken(struct rpc_stream *p)
{
    pthread_mutex_lock(&p->mutex);
    size_t taken = p->taken;
    p->taken = 0;
    pthread_mutex_unlock(&p->mutex);
    return taken;
}

size_t rpc_take(struct rpc_stream *p, uint8_t *out, size_t size)
{
    pthread_mutex_lock(&p->mutex);
    size_t n = queue_take(&p->out, out, size);
    p->patience += (int64_t)n;
    if (n > 0)
        pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->mutex);
    return n;
}

size_t rpc_unsent(struct rpc_stream *p)
{
    pthread_mutex_lock(&p->mutex);
    size_t n = queue_len(&p->out);
    pthread_mutex_unlock(&p->mutex);
    return n;
}

bool rpc_is_stuck(struct rpc_stream *p)
{
    pthread_mutex_lock(&p->mutex);
    bool stuck = p->stuck;
    pthread_mutex_unlock(&p->mutex);
    return stuck;
}

/* ---- the handler's side ---- */

/* Of the call: its client's, or the end of a shutdown's grace. */
static int64_t last_ms(const struct rpc_stream *p)
{
    int64_t cut = atomic_load(&p->x->admission->cut_ms);

    return cut < p->x->call_deadline_ms ? cut : p->x->call_deadline_ms;
}

/* False: it has failed. Called locked. */
static bool is_fine(struct rpc_stream *p, struct error *err)
{
    if (clock_left_ms(last_ms(p)) == 0) {
        if (last_ms(p) < p->x->call_deadline_ms)
            fail(p, ERROR_SHUTTING_DOWN, "shutting down");
        else
            fail(p, ERROR_DEADLINE, "the call's deadline has passed");
    }
    if (p->failed.code == ERROR_NONE)
        return true;
    *err = p->failed;
    return false;
}

/* Called locked. */
static void wait_until(struct rpc_stream *p, int64_t until_ms)
{
    int64_t last = last_ms(p);

    thread_cond_wait(&p->changed, &p->mutex, until_ms < last ? until_ms : last);
}

/* Called locked. The reaper's clock runs meanwhile. */
static void wait_for_bytes(struct rpc_stream *p, size_t wanted)
{
    struct error err;

    pthread_mutex_unlock(&p->mutex);
    connection_awaits(p->x->connection, true);
    pthread_mutex_lock(&p->mutex);
    p->wanted = wanted;
    while (queue_len(&p->in) < wanted && !p->ended && is_fine(p, &err))
        wait_until(p, INT64_MAX);
    p->wanted = 0;
    pthread_mutex_unlock(&p->mutex);
    connection_awaits(p->x->connection, false);
    pthread_mutex_lock(&p->mutex);
}

/* What is there, or has come when it can be waited for: as much as is to be had at a time. Called
 * locked. */
static bool read_some(struct rpc_stream *p, uint8_t *out, size_t size, size_t *ret,
                      struct error *err)
{
    size_t wanted = size < WAKE_BYTES ? size : WAKE_BYTES;

    if (queue_len(&p->in) < wanted && !p->ended && p->failed.code == ERROR_NONE)
        wait_for_bytes(p, wanted);
    if (!is_fine(p, err))
        return false;
    *ret = queue_take(&p->in, out, size);
    byte_budget_give(budget_of(p), (int64_t)*ret);
    p->taken += *ret;
    return true;
}

/* What is kept is a body that is complete; it is not evicted any more. */
static bool end_body(struct rpc_stream *p, struct error *err)
{
    if (p->whole)
        return true;
    p->whole = connection_begin_handling(p->x->connection, &p->kept);
    if (p->whole) {
        stage_took(&p->x->stages, STAGE_RECEIVE, clock_monotonic_s() - p->x->started_s);
        p->x->req.context.deadline_ms = exchange_deadline(p->x);
        return exchange_confirm(p->x, err); /* it may have taken long */
    }
    if (connection_fate(p->x->connection, err) != CONNECTION_REFUSED)
        error_set(err, ERROR_UNAVAILABLE, "the client has gone");
    return false;
}

bool rpc_read(struct rpc_stream *p, void *out, size_t size, size_t *ret, struct error *err)
{
    uint8_t *to = out;
    bool ok = true;

    *ret = 0;
    for (size_t n = 1; ok && n > 0 && *ret < size; *ret += n) {
        n = 0;
        pthread_mutex_lock(&p->mutex);
        ok = read_some(p, to + *ret, size - *ret, &n, err);
        bool tell = ok && p->taken >= TAKEN_STEP && !p->ended;
        pthread_mutex_unlock(&p->mutex);
        if (tell)
            p->wake(p->ctx);
    }
    return ok && *ret == 0 ? end_body(p, err) : ok;
}

/* Called locked. */
static bool wait_for_room(struct rpc_stream *p, struct error *err)
{
    while (is_fine(p, err)) {
        if (queue_len(&p->out) < RPC_OUT_MAX)
            return true;
        if (p->patience <= 0) {
            p->stuck = true;
            fail(p, ERROR_TOO_SLOW, "the client takes its messages too slowly");
            continue;
        }
        if (p->patience > PATIENCE_BYTES)
            p->patience = PATIENCE_BYTES;
        int64_t began_ms = clock_monotonic_ms();
        wait_until(p, began_ms + p->patience / CONNECTION_RATE_BYTES_PER_MS + 1);
        p->patience -= (clock_monotonic_ms() - began_ms) * CONNECTION_RATE_BYTES_PER_MS;
    }
    return false;
}

bool rpc_write(struct rpc_stream *p, struct bytes data, struct error *err)
{
    size_t sent = 0;
    bool ok = true;

    p->written = true;
    pthread_mutex_lock(&p->mutex);
    while (ok && sent < data.len) {
        ok = wait_for_room(p, err);
        size_t room = ok ? RPC_OUT_MAX - queue_len(&p->out) : 0;
        size_t n = data.len - sent < room ? data.len - sent : room;
        bool idle = queue_len(&p->out) == 0;
        ok = ok && queue_put(&p->out, bytes_of(data.data + sent, n), err);
        sent += n;
        if (ok && idle)
            p->wake(p->ctx);
    }
    pthread_mutex_unlock(&p->mutex);
    return ok;
}

struct reply *rpc_head(struct rpc_stream *p)
{
    return &p->head;
}

bool rpc_has_written(const struct rpc_stream *p)
{
    return p->written;
}

bool rpc_wait(struct rpc_stream *p, int64_t ms, struct error *err)
{
    pthread_mutex_lock(&p->mutex);
    bool ok = is_fine(p, err);
    if (ok) {
        wait_until(p, clock_monotonic_ms() + ms);
        ok = is_fine(p, err);
    }
    pthread_mutex_unlock(&p->mutex);
    return ok;
}

bool rpc_keep(struct rpc_stream *p, struct bytes data, struct error *err)
{
    if (data.len == 0)
        return true;
    enum connection_append how = connection_append_body(p->x->connection, data.data, data.len, err);

    if (how == CONNECTION_ANSWERED && connection_fate(p->x->connection, err) != CONNECTION_REFUSED)
        error_set(err, ERROR_UNAVAILABLE, "the client has gone");
    return how == CONNECTION_APPENDED;
}

struct bytes rpc_kept(const struct rpc_stream *p)
{
    return p->kept;
}

int64_t rpc_deadline(const struct rpc_stream *p)
{
    return exchange_deadline(p->x);
}
