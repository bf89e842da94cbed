#include "events/amqp/amqp_publisher.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "events/amqp/amqp_url.h"
#include "events/amqp/reconnect.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

enum {
    UNCONFIRMED_MAX = 1024, /* of some 500 bytes each: they fit into the socket's buffer */
    DATA_MAX = 16 * 1024,
};

/* One message, and the caller that waits for it. */
struct job {
    TAILQ_ENTRY(job) link; /* of the queue, while it is not sent */
    bool waiting;          /* false: the caller has gone, whoever holds the job frees it */
    bool settled, ok, returned;
    pthread_cond_t changed;
    struct error err;
    struct buffer data;
    char event_id[UUID_LEN + 1];
    char content_type[64], traceparent[EVENT_TRACEPARENT_MAX];
};

struct amqp_publisher {
    struct publisher publisher; /* first */
    struct amqp_options options;
    pthread_t thread;
    int wake; /* eventfd */

    pthread_mutex_t lock; /* all that follows */
    pthread_cond_t idle;
    TAILQ_HEAD(job_queue, job) queue;
    struct job *sent[UNCONFIRMED_MAX]; /* by tag */
    uint64_t first, next;              /* tags: the oldest unconfirmed, the next to be sent */
    int users;
    bool stopping, ended;
    bool connected; /* to a broker that reads */
    int64_t away_since_ms;
    struct error why; /* of the last connection that failed or was blocked */
    struct amqp_link *link;
};

/* ---- the jobs; all under the lock */

static void job_free(struct job *job)
{
    pthread_cond_destroy(&job->changed);
    buffer_done(&job->data);
    free(job);
}

static void settle(struct job *job, bool ok, const struct error *err)
{
    if (!job->waiting) {
        job_free(job);
        return;
    }
    job->settled = true;
    job->ok = ok;
    if (!ok)
        job->err = *err;
    pthread_cond_signal(&job->changed);
}

static struct job **slot(struct amqp_publisher *p, uint64_t tag)
{
    return &p->sent[tag % UNCONFIRMED_MAX];
}

static void confirm_one(struct amqp_publisher *p, uint64_t tag, bool ack)
{
    struct job *job = TAKE_PTR(*slot(p, tag));
    struct error err = {0};

    if (job == NULL)
        return;
    if (job->returned)
        error_set(&err, ERROR_UNAVAILABLE,
                  "RabbitMQ has no queue behind exchange " AMQP_IMAGES
                  ": it returns the message; bind " AMQP_IMAGES " again");
    else if (!ack)
        error_set(&err, ERROR_UNAVAILABLE,
                  "RabbitMQ refuses the message: queue " AMQP_IMAGES " is full or has no quorum");
    metric_add(METRIC_BROKER,
               job->returned ? "outcome=\"returned\""
               : ack         ? "outcome=\"confirmed\""
                             : "outcome=\"refused\"",
               1);
    settle(job, ack && !job->returned, &err);
}

static void confirm(struct amqp_publisher *p, const struct amqp_incoming *in)
{
    uint64_t from = in->multiple ? p->first : in->tag;
    uint64_t to = in->tag < p->next ? in->tag : p->next - 1;

    for (uint64_t tag = from; tag >= p->first && tag <= to; tag++)
        confirm_one(p, tag, in->kind == AMQP_ACK);
    while (p->first < p->next && *slot(p, p->first) == NULL)
        p->first++;
}

static void mark_returned(struct amqp_publisher *p, const char *message_id)
{
    for (uint64_t tag = p->first; tag < p->next; tag++)
        if (*slot(p, tag) != NULL && strcmp((*slot(p, tag))->event_id, message_id) == 0)
            (*slot(p, tag))->returned = true;
}

/* The connection is lost, and with it the news of what was sent: to be sent again, in order. */
static void take_back(struct amqp_publisher *p)
{
    while (p->next > p->first) {
        p->next--;
        struct job *job = TAKE_PTR(*slot(p, p->next));
        if (job == NULL)
            continue;
        if (job->waiting)
            TAILQ_INSERT_HEAD(&p->queue, job, link);
        else
            job_free(job);
    }
    p->first = p->next = 1;
}

/* ---- the thread that owns the connection */

/* The next one that waits, noted as sent; NULL: none, or too many are unconfirmed. */
static struct job *take_next(struct amqp_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    struct job *job = p->next - p->first < UNCONFIRMED_MAX ? TAILQ_FIRST(&p->queue) : NULL;
    if (job != NULL) {
        TAILQ_REMOVE(&p->queue, job, link);
        job->returned = false;
        *slot(p, p->next++) = job;
    }
    pthread_mutex_unlock(&p->lock);
    return job;
}

/* Without the lock, since the socket may take its time: what is noted as sent only this thread
 * frees. */
static bool send_job(struct amqp_publisher *p, const struct job *job, struct error *err)
{
    return amqp_link_publish(p->link,
                             &(struct amqp_outgoing){
                                 .exchange = AMQP_IMAGES,
                                 .key = AMQP_IMAGES,
                                 .mandatory = true,
                                 .persistent = true,
                                 .content_type = "application/json",
                                 .message_id = job->event_id,
                                 .headers = {{"origin", EVENT_ORIGIN},
                                             {"event_id", job->event_id},
                                             {"content_type", job->content_type},
                                             {"traceparent", job->traceparent}},
                                 .body = buffer_view(&job->data),
                             },
                             err);
}

/* A broker that reads nothing is away: callers go, and what waits is sent when it reads again. */
static bool note_blocked(struct amqp_publisher *p)
{
    const char *blocked = amqp_link_blocked(p->link);

    pthread_mutex_lock(&p->lock);
    if (blocked != NULL && p->connected) {
        p->away_since_ms = clock_monotonic_ms();
        error_set(&p->why, ERROR_UNAVAILABLE, "RabbitMQ takes no messages: %.150s", blocked);
    }
    p->connected = blocked == NULL;
    pthread_mutex_unlock(&p->lock);
    return blocked != NULL;
}

/* All that came, all that waits. False: the connection is lost. */
static bool turn(struct amqp_publisher *p, struct error *err)
{
    struct amqp_incoming in;
    struct job *job;
    bool ok = true;

    do {
        if (!amqp_link_receive(p->link, &in, err))
            return false;
        pthread_mutex_lock(&p->lock);
        if (in.kind == AMQP_ACK || in.kind == AMQP_NACK)
            confirm(p, &in);
        else if (in.kind == AMQP_RETURN)
            mark_returned(p, in.message_id);
        pthread_mutex_unlock(&p->lock);
        amqp_incoming_done(&in);
    } while (in.kind != AMQP_NOTHING);
    if (note_blocked(p))
        return true;
    while (ok && (job = take_next(p)) != NULL)
        ok = send_job(p, job, err);
    return ok;
}

static void set_link(struct amqp_publisher *p, struct amqp_link *link)
{
    pthread_mutex_lock(&p->lock);
    p->link = link;
    p->connected = link != NULL;
    p->first = p->next = 1;
    pthread_mutex_unlock(&p->lock);
}

static void lose_link(struct amqp_publisher *p, const struct error *err)
{
    struct amqp_link *link = p->link;

    pthread_mutex_lock(&p->lock);
    if (p->connected || p->away_since_ms == 0)
        p->away_since_ms = clock_monotonic_ms();
    p->why = *err;
    p->connected = false;
    p->link = NULL;
    take_back(p);
    pthread_mutex_unlock(&p->lock);
    amqp_link_close(link, false);
}

static bool has_ended(struct amqp_publisher *p)
{
    pthread_mutex_lock(&p->lock);
    bool ended = p->ended;
    pthread_mutex_unlock(&p->lock);
    return ended;
}

static bool pause_before_next(struct amqp_publisher *p, int64_t ms)
{
    int64_t until_ms = clock_monotonic_ms() + ms;

    while (!has_ended(p) && clock_left_ms(until_ms) > 0)
        amqp_wait(NULL, p->wake, clock_left_ms(until_ms));
    return !has_ended(p);
}

static void *publisher_main(void *arg)
{
    struct amqp_publisher *p = arg;
    struct amqp_reconnect attempts = {0};

    while (!has_ended(p)) {
        struct error err = {0};
        struct amqp_link *link = amqp_reconnect_open(&attempts, &p->options, &err);
        if (link != NULL) {
            set_link(p, link);
            while (!has_ended(p) && turn(p, &err))
                amqp_wait(p->link, p->wake, AMQP_LOOK_MS);
            if (has_ended(p))
                break;
        }
        lose_link(p, &err);
        if (!pause_before_next(p, amqp_reconnect_pause_ms(&attempts, &err)))
            break;
    }
    return NULL;
}

/* ---- the callers */

/* Where the deadline is the connection's: a broker that is away is not waited for to the end. */
static bool wait_settled(struct amqp_publisher *p, struct job *job, int64_t deadline_ms)
{
    int64_t since_ms = clock_monotonic_ms();

    while (!job->settled) {
        int64_t now = clock_monotonic_ms();
        int64_t since = since_ms > p->away_since_ms ? since_ms : p->away_since_ms;
        if (!p->connected && p->why.code != ERROR_NONE && now - since >= AMQP_AWAY_MS) {
            job->err = p->why;
            return false;
        }
        if (now >= deadline_ms) {
            error_set(&job->err, ERROR_DEADLINE, "RabbitMQ: no confirm before the deadline");
            return false;
        }
        int64_t look_ms = now + CLOCK_CUT_LOOK_MS;
        thread_cond_wait(&job->changed, &p->lock, look_ms < deadline_ms ? look_ms : deadline_ms);
    }
    return job->ok;
}

/* The caller leaves: the job is freed now, or by the thread when its confirm comes. */
static void leave(struct amqp_publisher *p, struct job *job)
{
    bool sent = false;

    for (uint64_t tag = p->first; !job->settled && tag < p->next && !sent; tag++)
        sent = *slot(p, tag) == job;
    if (sent) {
        job->waiting = false;
        return;
    }
    if (!job->settled)
        TAILQ_REMOVE(&p->queue, job, link);
    job_free(job);
}

static struct job *job_new(const struct event *event, struct error *err)
{
    struct job *job = xcalloc(1, sizeof(*job));

    job->waiting = true;
    job->data = (struct buffer)BUFFER_MAX(DATA_MAX);
    pthread_cond_init(&job->changed, NULL);
    snprintf(job->content_type, sizeof(job->content_type), "%s", event->content_type);
    snprintf(job->traceparent, sizeof(job->traceparent), "%s", event->traceparent);
    bool ok =
        string_is_utf8(bytes_from_str(event->gcs_path))
            ? string_uuid(job->event_id) || error_set(err, ERROR_UNAVAILABLE, "no random numbers")
            : error_set(err, ERROR_UNAVAILABLE, "the object's URI is not UTF-8");
    if (ok && event_data(event->gcs_path, event->id, &job->data, err))
        return job;
    job_free(job);
    return NULL;
}

static bool event_publish(struct publisher *self, const struct event *event, int64_t deadline_ms,
                          char message_id[MESSAGE_ID_MAX], struct error *err)
{
    struct amqp_publisher *p = (struct amqp_publisher *)self;
    struct job *job = job_new(event, err);

    if (job == NULL)
        return false;
    pthread_mutex_lock(&p->lock);
    if (p->stopping) {
        pthread_mutex_unlock(&p->lock);
        job_free(job);
        return error_set(err, ERROR_SHUTTING_DOWN, "no more events are published");
    }
    p->users++;
    TAILQ_INSERT_TAIL(&p->queue, job, link);
    amqp_wake(p->wake);
    bool ok = wait_settled(p, job, deadline_ms);
    if (ok)
        snprintf(message_id, MESSAGE_ID_MAX, "%s", job->event_id);
    else
        *err = job->err;
    leave(p, job);
    if (--p->users == 0)
        pthread_cond_broadcast(&p->idle);
    pthread_mutex_unlock(&p->lock);
    if (ok)
        metric_add(METRIC_EVENTS, "outcome=\"published\"", 1);
    return ok;
}

static void event_stop(struct publisher *self, int64_t deadline_ms)
{
    struct amqp_publisher *p = (struct amqp_publisher *)self;

    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    while (p->users > 0 && thread_cond_wait(&p->idle, &p->lock, deadline_ms))
        ;
    pthread_mutex_unlock(&p->lock);
}

static void event_free(struct publisher *self)
{
    struct amqp_publisher *p = (struct amqp_publisher *)self;
    struct job *job;

    pthread_mutex_lock(&p->lock);
    p->ended = true;
    if (p->link != NULL && p->first < p->next) /* it does not confirm: not waited for */
        amqp_link_break(p->link);
    pthread_mutex_unlock(&p->lock);
    amqp_wake(p->wake);
    pthread_join(p->thread, NULL);
    amqp_link_close(p->link, false);
    take_back(p);
    while ((job = TAILQ_FIRST(&p->queue)) != NULL) {
        TAILQ_REMOVE(&p->queue, job, link);
        job_free(job);
    }
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    close(p->wake);
    free(p);
}

struct publisher *amqp_publisher_new(const struct amqp_options *options, struct error *err)
{
    struct amqp_url url;

    if (!amqp_url_parse(options->url, &url, err))
        return NULL;
    explicit_bzero(&url, sizeof(url));
    struct amqp_publisher *p = xcalloc(1, sizeof(*p));
    p->publisher = (struct publisher){event_publish, event_stop, event_free};
    p->options = *options;
    p->first = p->next = 1;
    TAILQ_INIT(&p->queue);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake < 0 || !thread_start(&p->thread, publisher_main, p, err)) {
        if (p->wake < 0)
            error_set(err, ERROR_UNAVAILABLE, "no eventfd");
        else
            close(p->wake);
        free(p);
        return NULL;
    }
    return &p->publisher;
}
