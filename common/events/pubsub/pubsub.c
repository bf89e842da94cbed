#include "events/pubsub/pubsub.h"

#include "base/json.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "events/pubsub/pubsub_call.h"

#include <string.h>
#include <sys/queue.h>

enum {
    CALLS_MAX = 4, /* at a time: one that hangs does not hold up everybody */
    BODY_MAX = 1024 * 1024,
    ATTEMPTS_MAX = 6,
    ATTEMPT_MS = 10000,
    BACKOFF_FIRST_MS = 100, /* doubling; the pause is a random part of it ("full jitter") */
};

static const char body_head[] = "{\"messages\":[", body_tail[] = "]}";

/* One message and the thread that waits for it. */
struct waiter {
    enum { QUEUED, TAKEN, SETTLED } state;
    TAILQ_ENTRY(waiter) link; /* QUEUED */
    struct waiter **place;    /* TAKEN: where the batch holds it */
    pthread_cond_t changed;
    struct bytes text;
    int64_t deadline_ms;
    bool alone;                  /* not in a batch with others */
    bool refused;                /* with a token before */
    enum pubsub_verdict verdict; /* SETTLED: of the last call it was in */
    struct error err;
    char *message_id;
};

/* What one call sends, while it is in progress. */
struct batch {
    struct pubsub_call call;
    struct waiter *waiters[PUBSUB_BATCH_MAX]; /* NULL: gone meanwhile */
    struct buffer body;
};

struct pubsub {
    struct publisher publisher; /* first: what the callers of pubsub_publisher_new hold */
    struct pubsub_options options;
    char *url;

    pthread_mutex_t lock; /* all that follows, and the waiters */
    pthread_cond_t idle;
    TAILQ_HEAD(waiter_queue, waiter) queue;
    int calls;
    int users;
    bool stopping;
    int64_t stop_ms; /* everybody's deadline once stopping */
};

/* ---- messages */

static bool message_write(const struct pubsub_message *message, struct buffer *out,
                          struct error *err)
{
    CLEANUP(buffer_done) struct buffer base64 = BUFFER_MAX(PUBSUB_MESSAGE_MAX);
    const struct pubsub_attribute *a = message->attributes;

    for (size_t i = 0; i < PUBSUB_ATTRIBUTES_MAX && a[i].name != NULL; i++)
        if (!string_is_utf8(bytes_from_str(a[i].value)))
            return error_set(err, ERROR_UNAVAILABLE, "the event's %s is not UTF-8", a[i].name);
    if (!string_base64_encode(message->data, &base64, err))
        return false;
    json_t *attributes = json_object();
    for (size_t i = 0; i < PUBSUB_ATTRIBUTES_MAX && a[i].name != NULL; i++)
        if (*a[i].value != '\0')
            json_object_set_new(attributes, a[i].name, json_string(a[i].value));
    return json_append(json_pack("{s:s%, s:o}", "data", (const char *)base64.data, base64.len,
                                 "attributes", attributes),
                       out, err);
}

/* ---- waiting */

static int64_t deadline_of(const struct pubsub *p, const struct waiter *w)
{
    int64_t deadline = clock_cut_deadline(p->options.cut, w->deadline_ms);

    return deadline < p->stop_ms ? deadline : p->stop_ms;
}

/* Until something changes, or it is time to look at the clocks again. */
static void wait_until(struct pubsub *p, pthread_cond_t *changed, int64_t deadline_ms)
{
    int64_t look_ms = clock_monotonic_ms() + CLOCK_CUT_LOOK_MS;

    thread_cond_wait(changed, &p->lock, look_ms < deadline_ms ? look_ms : deadline_ms);
}

/* False when there is no time for another attempt. */
static bool pause_before(struct pubsub *p, struct waiter *w, int attempt)
{
    int64_t until_ms =
        clock_monotonic_ms() + 1 + clock_jitter_ms((BACKOFF_FIRST_MS << attempt) - 1);

    while (until_ms < deadline_of(p, w) && clock_left_ms(until_ms) > 0)
        wait_until(p, &w->changed, until_ms);
    return until_ms < deadline_of(p, w);
}

/* ---- batches: one waiter makes the call for others */

/* The first in the queue is the next to make a call. */
static void wake_first(struct pubsub *p)
{
    struct waiter *first = TAILQ_FIRST(&p->queue);

    if (first != NULL && p->calls < CALLS_MAX)
        pthread_cond_signal(&first->changed);
}

/* As many as fit, from the front of the queue. */
static void batch_take(struct pubsub *p, struct batch *batch)
{
    size_t *count = &batch->call.count;
    size_t len = sizeof(body_head) + sizeof(body_tail);
    struct waiter *w;
    bool alone = false;

    while (!alone && *count < PUBSUB_BATCH_MAX && (w = TAILQ_FIRST(&p->queue)) != NULL) {
        len += w->text.len + 1;
        if (*count > 0 && (w->alone || len > BODY_MAX))
            break;
        TAILQ_REMOVE(&p->queue, w, link);
        w->state = TAKEN;
        w->place = &batch->waiters[*count];
        batch->waiters[(*count)++] = w;
        alone = w->alone;
    }
}

/* The texts belong to threads that may leave: copied before anybody can. */
static bool batch_write(struct batch *batch, struct error *err)
{
    if (!buffer_append_str(&batch->body, body_head, err))
        return false;
    for (size_t i = 0; i < batch->call.count; i++)
        if ((i > 0 && !buffer_append(&batch->body, ",", 1, err)) ||
            !buffer_append(&batch->body, batch->waiters[i]->text.data, batch->waiters[i]->text.len,
                           err))
            return false;
    if (!buffer_append_str(&batch->body, body_tail, err))
        return false;
    batch->call.body = buffer_view(&batch->body);
    return true;
}

static void batch_settle(struct batch *batch, enum pubsub_verdict verdict, const struct error *err)
{
    for (size_t i = 0; i < batch->call.count; i++) {
        struct waiter *w = batch->waiters[i];

        if (w == NULL)
            continue;
        w->state = SETTLED;
        w->verdict = verdict;
        if (verdict == PUBSUB_DONE)
            strcpy(w->message_id, batch->call.ids[i]);
        else
            w->err = *err;
        pthread_cond_signal(&w->changed);
    }
}

/* Make a call for the front of the queue, where the caller is the first. */
static void lead(struct pubsub *p, int64_t deadline_ms)
{
    struct batch batch;
    int64_t attempt_ms = clock_monotonic_ms() + p->options.attempt_ms;
    enum pubsub_verdict verdict = PUBSUB_FAILED;
    struct error err = {0};

    batch.call.count = 0;
    batch.call.deadline_ms = attempt_ms < deadline_ms ? attempt_ms : deadline_ms;
    batch.body = (struct buffer)BUFFER_MAX(BODY_MAX);
    batch_take(p, &batch);
    bool written = batch_write(&batch, &err);
    p->calls++;
    wake_first(p);
    pthread_mutex_unlock(&p->lock);
    if (written)
        verdict = pubsub_call(&p->options, p->url, &batch.call, &err);
    buffer_done(&batch.body);
    pthread_mutex_lock(&p->lock);
    p->calls--;
    batch_settle(&batch, verdict, &err);
    wake_first(p);
}

/* Out of time: leave the queue, or the batch, whose call goes on for the others. */
static void give_up(struct pubsub *p, struct waiter *w)
{
    if (w->state == QUEUED) {
        TAILQ_REMOVE(&p->queue, w, link);
        wake_first(p);
    } else {
        *w->place = NULL;
    }
    w->state = SETTLED;
    w->verdict = PUBSUB_FAILED;
    if (w->err.code == ERROR_NONE)
        error_set(&w->err, ERROR_DEADLINE, "Pub/Sub: no answer before the deadline");
}

/* Be part of one call, whoever makes it. */
static enum pubsub_verdict take_part(struct pubsub *p, struct waiter *w)
{
    w->state = QUEUED;
    TAILQ_INSERT_TAIL(&p->queue, w, link);
    while (w->state != SETTLED) {
        int64_t deadline_ms = deadline_of(p, w);

        if (clock_left_ms(deadline_ms) == 0)
            give_up(p, w);
        else if (w == TAILQ_FIRST(&p->queue) && p->calls < CALLS_MAX)
            lead(p, deadline_ms);
        else
            wait_until(p, &w->changed, deadline_ms);
    }
    return w->verdict;
}

static bool publish(struct pubsub *p, struct waiter *w)
{
    bool again = true;

    for (int attempt = 0; again; attempt++) {
        switch (take_part(p, w)) {
        case PUBSUB_DONE:
            return true;
        case PUBSUB_FAILED:
            again = false;
            break;
        case PUBSUB_AGAIN:
            again = attempt + 1 < ATTEMPTS_MAX && pause_before(p, w, attempt);
            break;
        case PUBSUB_NEW_TOKEN:
            again = !w->refused;
            w->refused = true;
            break;
        case PUBSUB_ALONE:
            w->alone = true;
            break;
        }
    }
    return false;
}

/* ---- the topic */

struct pubsub *pubsub_new(const struct pubsub_options *options, struct error *err)
{
    struct pubsub *p = xcalloc(1, sizeof(*p));

    p->options = *options;
    if (p->options.attempt_ms == 0)
        p->options.attempt_ms = ATTEMPT_MS;
    p->url = pubsub_url(options, err);
    if (p->url == NULL) {
        free(p);
        return NULL;
    }
    p->stop_ms = INT64_MAX;
    TAILQ_INIT(&p->queue);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->idle, NULL);
    return p;
}

bool pubsub_publish(struct pubsub *p, const struct pubsub_message *message, int64_t deadline_ms,
                    char message_id[MESSAGE_ID_MAX], struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(PUBSUB_MESSAGE_MAX);
    bool ok = false;

    if (!message_write(message, &text, err))
        return false;
    struct waiter w = {
        .text = buffer_view(&text), .deadline_ms = deadline_ms, .message_id = message_id};
    pthread_cond_init(&w.changed, NULL);
    pthread_mutex_lock(&p->lock);
    if (p->stopping) {
        error_set(&w.err, ERROR_SHUTTING_DOWN, "no more events are published");
    } else {
        p->users++;
        ok = publish(p, &w);
        if (--p->users == 0)
            pthread_cond_broadcast(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    pthread_cond_destroy(&w.changed);
    if (!ok)
        *err = w.err;
    return ok;
}

void pubsub_stop(struct pubsub *p, int64_t deadline_ms)
{
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    p->stop_ms = deadline_ms < p->stop_ms ? deadline_ms : p->stop_ms;
    while (p->users > 0 && clock_left_ms(p->stop_ms) > 0)
        wait_until(p, &p->idle, p->stop_ms);
    pthread_mutex_unlock(&p->lock);
}

void pubsub_free(struct pubsub *p)
{
    if (p == NULL)
        return;
    pthread_cond_destroy(&p->idle);
    pthread_mutex_destroy(&p->lock);
    free(p->url);
    free(p);
}

/* ---- the publisher */

static bool event_publish(struct publisher *self, const struct event *event, int64_t deadline_ms,
                          char message_id[MESSAGE_ID_MAX], struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(PUBSUB_MESSAGE_MAX);
    char event_id[UUID_LEN + 1];

    if (!string_is_utf8(bytes_from_str(event->gcs_path)))
        return error_set(err, ERROR_UNAVAILABLE, "the object's URI is not UTF-8");
    if (!string_uuid(event_id))
        return error_set(err, ERROR_UNAVAILABLE, "no random numbers");
    if (!event_data(event->gcs_path, event->id, &data, err) ||
        !pubsub_publish((struct pubsub *)self,
                        &(struct pubsub_message){
                            .data = buffer_view(&data),
                            .attributes = {{"origin", EVENT_ORIGIN},
                                           {"event_id", event_id},
                                           {"content_type", event->content_type},
                                           {"traceparent", event->traceparent}},
                        },
                        deadline_ms, message_id, err))
        return false;
    metric_add(METRIC_EVENTS, "outcome=\"published\"", 1);
    return true;
}

static void event_stop(struct publisher *self, int64_t deadline_ms)
{
    pubsub_stop((struct pubsub *)self, deadline_ms);
}

static void event_free(struct publisher *self)
{
    pubsub_free((struct pubsub *)self);
}

struct publisher *pubsub_publisher_new(const struct pubsub_options *options, struct error *err)
{
    struct pubsub *p = pubsub_new(options, err);

    if (p == NULL)
        return NULL;
    p->publisher = (struct publisher){event_publish, event_stop, event_free};
    return &p->publisher;
}
