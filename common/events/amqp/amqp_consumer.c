#include "events/amqp/amqp_consumer.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "events/amqp/amqp_url.h"
#include "events/amqp/reconnect.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

enum {
    COUNT_EVERY_MS = 5000,
    AGAIN_MS = 2000, /* after the broker has refused a copy */
    LONG_MS = 3600000,
    /* librabbitmq decodes headers by recursion: a frame of nested ones takes 2.5 MiB */
    STACK_BYTES = 8 * 1024 * 1024,
};

struct amqp_delivery {
    TAILQ_ENTRY(amqp_delivery) entry;
    struct amqp_consumer *consumer;
    uint64_t connection; /* the number of the one that it came by */
    struct amqp_incoming message;
    struct amqp_verdict verdict;
    uint64_t reply, copy; /* the numbers of those that are not confirmed; 0: none */
    bool refused;         /* the copy was */
    int64_t not_before_ms;
};

TAILQ_HEAD(deliveries, amqp_delivery);

struct amqp_consumer {
    struct amqp_consumer_options options;
    pthread_t thread, *handlers;
    int handler_count;
    int wake; /* eventfd */
    bool counts;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct deliveries waiting, handled; /* for a handler; for the thread of the connection */
    int at_work;
    uint64_t connection;
    bool stopping, drained, ended;
    struct amqp_link *link; /* changed by the connection's thread only */

    /* the connection's thread's own */
    struct deliveries unconfirmed;
    uint64_t published; /* on this connection */
    bool cancelled;
    int64_t count_at_ms;
    _Atomic uint32_t queue_length, dead_letters;
};

static void delivery_free(struct amqp_delivery *d)
{
    amqp_incoming_done(&d->message);
    free(d->verdict.reply);
    free(d);
}

static void free_all(struct deliveries *list)
{
    struct amqp_delivery *d;

    while ((d = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, d, entry);
        delivery_free(d);
    }
}

static void count(const char *labels)
{
    metric_add(METRIC_BROKER, labels, 1);
}

/* ---- the thread of the connection: out */

static bool publish(struct amqp_consumer *c, const struct amqp_outgoing *message, uint64_t *number,
                    struct error *err)
{
    if (!amqp_link_publish(c->link, message, err))
        return false;
    *number = ++c->published;
    return true;
}

/* By the default exchange, whose keys are the names of queues. One that is gone loses its reply. */
static bool send_reply(struct amqp_consumer *c, struct amqp_delivery *d, struct error *err)
{
    CLEANUP_FREE char *reply = TAKE_PTR(d->verdict.reply);

    if (reply == NULL || *d->message.reply_to == '\0')
        return true;
    count("outcome=\"answered\"");
    return publish(c,
                   &(struct amqp_outgoing){
                       .key = d->message.reply_to,
                       .persistent = true,
                       .content_type = "application/json",
                       .correlation_id = d->message.correlation_id,
                       .body = bytes_from_str(reply),
                   },
                   &d->reply, err);
}

static bool send_copy(struct amqp_consumer *c, struct amqp_delivery *d, struct error *err)
{
    const struct amqp_incoming *m = &d->message;
    bool dead = d->verdict.outcome == AMQP_DEAD_LETTER;

    if (!dead && d->verdict.outcome != AMQP_GIVE_BACK)
        return true;
    json_object_del(m->headers, "reason"); /* it has been a dead letter before */
    return publish(c,
                   &(struct amqp_outgoing){
                       .key = dead ? AMQP_DEAD : c->options.queue,
                       .mandatory = true,
                       .persistent = true,
                       .content_type = m->content_type,
                       .message_id = m->message_id,
                       .correlation_id = m->correlation_id,
                       .reply_to = m->reply_to,
                       .headers = {{"reason", d->verdict.reason}},
                       .copied = m->headers,
                       .body = buffer_view(&m->body),
                   },
                   &d->copy, err);
}

static bool acknowledge(struct amqp_consumer *c, struct amqp_delivery *d, struct error *err)
{
    /* the body of one that is too large is not here: the broker itself has to make the copy */
    bool ok = d->message.too_large ? amqp_link_reject(c->link, d->message.tag, err)
                                   : amqp_link_acknowledge(c->link, d->message.tag, err);

    if (d->verdict.outcome == AMQP_DEAD_LETTER)
        count("outcome=\"dead_lettered\"");
    if (d->verdict.outcome == AMQP_GIVE_BACK)
        count("outcome=\"given_back\"");
    delivery_free(d);
    return ok;
}

/* Of a delivery that was handled. */
static bool conclude(struct amqp_consumer *c, struct amqp_delivery *d, struct error *err)
{
    if (d->connection != c->connection || d->verdict.outcome == AMQP_LATER) {
        delivery_free(d);
        return true;
    }
    if (!send_reply(c, d, err) || (!d->message.too_large && !send_copy(c, d, err))) {
        delivery_free(d);
        return false;
    }
    if (d->reply == 0 && d->copy == 0)
        return acknowledge(c, d, err);
    TAILQ_INSERT_TAIL(&c->unconfirmed, d, entry);
    return true;
}

static void put_handled(struct amqp_consumer *c, struct amqp_delivery *d)
{
    pthread_mutex_lock(&c->lock);
    TAILQ_INSERT_TAIL(&c->handled, d, entry);
    pthread_mutex_unlock(&c->lock);
}

static bool conclude_all(struct amqp_consumer *c, struct error *err)
{
    struct deliveries taken = TAILQ_HEAD_INITIALIZER(taken);
    struct amqp_delivery *d;
    int64_t now_ms = clock_monotonic_ms();
    bool ok = true;

    pthread_mutex_lock(&c->lock);
    TAILQ_CONCAT(&taken, &c->handled, entry);
    pthread_mutex_unlock(&c->lock);
    while ((d = TAILQ_FIRST(&taken)) != NULL) {
        TAILQ_REMOVE(&taken, d, entry);
        if (!ok || d->not_before_ms > now_ms)
            put_handled(c, d);
        else
            ok = conclude(c, d, err);
    }
    return ok;
}

/* ---- the thread of the connection: in */

static void hand_out(struct amqp_consumer *c, struct amqp_incoming *in)
{
    struct amqp_delivery *d = xcalloc(1, sizeof(*d));

    count(in->redelivered ? "outcome=\"redelivered\"" : "outcome=\"consumed\"");
    d->consumer = c;
    d->connection = c->connection;
    d->message = *in;
    *in = (struct amqp_incoming){0};
    pthread_mutex_lock(&c->lock);
    TAILQ_INSERT_TAIL(&c->waiting, d, entry);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static bool is_of(const struct amqp_incoming *in, uint64_t number)
{
    return number != 0 && (in->multiple ? number <= in->tag : number == in->tag);
}

/* A reply that is refused is lost, as one is whose queue is gone; a copy is sent again. */
static bool confirm(struct amqp_consumer *c, const struct amqp_incoming *in, struct error *err)
{
    bool ok = true;

    for (struct amqp_delivery *d = TAILQ_FIRST(&c->unconfirmed), *next; ok && d != NULL; d = next) {
        next = TAILQ_NEXT(d, entry);
        if (is_of(in, d->reply))
            d->reply = 0;
        if (is_of(in, d->copy)) {
            d->copy = 0;
            d->refused = in->kind == AMQP_NACK;
        }
        if (d->reply != 0 || d->copy != 0)
            continue;
        TAILQ_REMOVE(&c->unconfirmed, d, entry);
        if (d->refused) {
            count("outcome=\"refused\"");
            d->not_before_ms = clock_monotonic_ms() + AGAIN_MS;
            put_handled(c, d);
        } else {
            ok = acknowledge(c, d, err);
        }
    }
    return ok;
}

static bool take(struct amqp_consumer *c, struct amqp_incoming *in, struct error *err)
{
    switch (in->kind) {
    case AMQP_DELIVERY:
        hand_out(c, in);
        return true;
    case AMQP_ACK:
    case AMQP_NACK:
        return confirm(c, in, err);
    case AMQP_RETURN: /* the next connection declares it again */
        return error_set(err, ERROR_UNAVAILABLE, "RabbitMQ has lost queue " AMQP_DEAD " or %s",
                         c->options.queue);
    case AMQP_CANCEL:
        return error_set(err, ERROR_UNAVAILABLE, "RabbitMQ has lost queue %s", c->options.queue);
    case AMQP_NOTHING:
        break;
    }
    return true;
}

static bool take_all(struct amqp_consumer *c, struct error *err)
{
    struct amqp_incoming in;
    bool ok, more;

    do {
        if (!amqp_link_receive(c->link, &in, err))
            return false;
        more = in.kind != AMQP_NOTHING;
        ok = take(c, &in, err);
        amqp_incoming_done(&in);
    } while (ok && more);
    return ok;
}

static bool count_queues(struct amqp_consumer *c, struct error *err)
{
    uint32_t length, dead;

    if (!c->counts || clock_left_ms(c->count_at_ms) > 0)
        return true;
    c->count_at_ms = clock_monotonic_ms() + COUNT_EVERY_MS;
    if (!amqp_link_count(c->link, AMQP_IMAGES, &length, err) ||
        !amqp_link_count(c->link, AMQP_DEAD, &dead, err))
        return false;
    atomic_store(&c->queue_length, length);
    atomic_store(&c->dead_letters, dead);
    return true;
}

/* ---- the thread of the connection */

static bool is_stopping(struct amqp_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    bool stopping = c->stopping;
    pthread_mutex_unlock(&c->lock);
    return stopping;
}

/* What no handler has begun goes back when the connection closes. */
static bool end_deliveries(struct amqp_consumer *c, struct error *err)
{
    if (!c->cancelled && !amqp_link_cancel(c->link, err))
        return false;
    c->cancelled = true;
    pthread_mutex_lock(&c->lock);
    free_all(&c->waiting);
    pthread_mutex_unlock(&c->lock);
    return true;
}

/* Or no broker reads what is left. */
static bool is_drained(struct amqp_consumer *c)
{
    bool blocked = amqp_link_blocked(c->link) != NULL;

    pthread_mutex_lock(&c->lock);
    bool drained =
        c->ended || (c->stopping && c->at_work == 0 &&
                     (blocked || (c->cancelled && TAILQ_EMPTY(&c->waiting) &&
                                  TAILQ_EMPTY(&c->handled) && TAILQ_EMPTY(&c->unconfirmed))));
    pthread_mutex_unlock(&c->lock);
    return drained;
}

/* False: the connection is lost. What it asks of the broker comes before it takes what came. A
 * broker that reads nothing is asked nothing: each connection given up then would count as a
 * delivery. */
static bool turn(struct amqp_consumer *c, struct error *err)
{
    if (amqp_link_blocked(c->link) != NULL)
        return take_all(c, err);
    return (!is_stopping(c) || end_deliveries(c, err)) && count_queues(c, err) &&
           take_all(c, err) && conclude_all(c, err);
}

static void set_link(struct amqp_consumer *c, struct amqp_link *link)
{
    pthread_mutex_lock(&c->lock);
    c->link = link;
    pthread_mutex_unlock(&c->lock);
}

static void lose_link(struct amqp_consumer *c, bool orderly)
{
    struct amqp_link *link = c->link;

    set_link(c, NULL);
    amqp_link_close(link, orderly);
    free_all(&c->unconfirmed);
    c->published = 0;
    c->cancelled = false;
    c->count_at_ms = 0;
    pthread_mutex_lock(&c->lock);
    c->connection++;
    free_all(&c->waiting);
    free_all(&c->handled);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static void *consumer_main(void *arg)
{
    struct amqp_consumer *c = arg;
    struct amqp_reconnect attempts = {0};

    while (!is_stopping(c)) {
        struct error err = {0};
        struct amqp_link *link = amqp_reconnect_open(&attempts, &c->options.broker, &err);
        set_link(c, link);
        bool ok = link != NULL &&
                  amqp_link_consume(link, c->options.queue, c->options.threads, &err) &&
                  turn(c, &err);
        while (ok && !is_drained(c)) {
            amqp_wait(c->link, c->wake, AMQP_LOOK_MS);
            ok = turn(c, &err);
        }
        lose_link(c, ok && amqp_link_blocked(c->link) == NULL);
        if (ok || is_stopping(c))
            break;
        int64_t until_ms = clock_monotonic_ms() + amqp_reconnect_pause_ms(&attempts, &err);
        while (!is_stopping(c) && clock_left_ms(until_ms) > 0)
            amqp_wait(NULL, c->wake, clock_left_ms(until_ms));
    }
    pthread_mutex_lock(&c->lock);
    c->drained = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- the threads that handle */

static struct amqp_delivery *next_waiting(struct amqp_consumer *c)
{
    struct amqp_delivery *d;

    pthread_mutex_lock(&c->lock);
    while (!c->stopping && TAILQ_EMPTY(&c->waiting))
        thread_cond_wait(&c->changed, &c->lock, clock_monotonic_ms() + LONG_MS);
    d = c->stopping ? NULL : TAILQ_FIRST(&c->waiting);
    if (d != NULL) {
        TAILQ_REMOVE(&c->waiting, d, entry);
        c->at_work++;
    }
    pthread_mutex_unlock(&c->lock);
    return d;
}

static void *handler_main(void *arg)
{
    struct amqp_consumer *c = arg;
    struct amqp_delivery *d;

    while ((d = next_waiting(c)) != NULL) {
        c->options.handle(c->options.ctx, d, &d->message, &d->verdict);
        pthread_mutex_lock(&c->lock);
        c->at_work--;
        TAILQ_INSERT_TAIL(&c->handled, d, entry);
        pthread_mutex_unlock(&c->lock);
        amqp_wake(c->wake);
    }
    return NULL;
}

bool amqp_delivery_pause(const struct amqp_delivery *d, int64_t ms)
{
    struct amqp_consumer *c = d->consumer;
    int64_t until_ms = clock_monotonic_ms() + ms;

    pthread_mutex_lock(&c->lock);
    while (!c->stopping && d->connection == c->connection && clock_left_ms(until_ms) > 0)
        thread_cond_wait(&c->changed, &c->lock, until_ms);
    bool ok = !c->stopping && d->connection == c->connection;
    pthread_mutex_unlock(&c->lock);
    return ok;
}

/* ---- */

static double read_queue_length(void *ctx)
{
    return atomic_load(&((struct amqp_consumer *)ctx)->queue_length);
}

static double read_dead_letters(void *ctx)
{
    return atomic_load(&((struct amqp_consumer *)ctx)->dead_letters);
}

struct amqp_consumer *amqp_consumer_start(const struct amqp_consumer_options *options,
                                          struct error *err)
{
    struct amqp_url url;

    if (!amqp_url_parse(options->broker.url, &url, err))
        return NULL;
    explicit_bzero(&url, sizeof(url));
    struct amqp_consumer *c = xcalloc(1, sizeof(*c));
    c->options = *options;
    c->counts = strcmp(options->queue, AMQP_IMAGES) == 0;
    c->handlers = xcalloc((size_t)options->threads, sizeof(*c->handlers));
    TAILQ_INIT(&c->waiting);
    TAILQ_INIT(&c->handled);
    TAILQ_INIT(&c->unconfirmed);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake < 0 || !thread_start_deep(&c->thread, STACK_BYTES, consumer_main, c, err)) {
        if (c->wake < 0)
            error_set(err, ERROR_UNAVAILABLE, "no eventfd");
        else
            close(c->wake);
        free(c->handlers);
        free(c);
        return NULL;
    }
    if (c->counts) {
        metric_gauge_source(METRIC_BROKER_QUEUE, read_queue_length, c);
        metric_gauge_source(METRIC_BROKER_DEAD, read_dead_letters, c);
    }
    while (c->handler_count < options->threads) {
        if (!thread_start(&c->handlers[c->handler_count], handler_main, c, err)) {
            amqp_consumer_free(c);
            return NULL;
        }
        c->handler_count++;
    }
    return c;
}

void amqp_consumer_leave(struct amqp_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    amqp_wake(c->wake);
}

void amqp_consumer_stop(struct amqp_consumer *c, int64_t deadline_ms)
{
    amqp_consumer_leave(c);
    pthread_mutex_lock(&c->lock);
    while (!c->drained && thread_cond_wait(&c->changed, &c->lock, deadline_ms))
        ;
    pthread_mutex_unlock(&c->lock);
}

void amqp_consumer_free(struct amqp_consumer *c)
{
    if (c == NULL)
        return;
    if (c->counts) {
        metric_gauge_clear(METRIC_BROKER_QUEUE);
        metric_gauge_clear(METRIC_BROKER_DEAD);
    }
    pthread_mutex_lock(&c->lock);
    c->stopping = c->ended = true;
    pthread_cond_broadcast(&c->changed);
    if (c->link != NULL) /* the deadline has passed: it is not waited for */
        amqp_link_break(c->link);
    pthread_mutex_unlock(&c->lock);
    amqp_wake(c->wake);
    for (int i = 0; i < c->handler_count; i++)
        pthread_join(c->handlers[i], NULL);
    pthread_join(c->thread, NULL);
    free_all(&c->handled);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    close(c->wake);
    free(c->handlers);
    free(c);
}
