#include "events/outbox/push.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/threads.h"
#include "base/xmalloc.h"
#include "client/http_client.h"
#include "events/outbox/envelope.h"

#include <string.h>

enum {
    TIMEOUT_MS = 60000,
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 60000,
    REPLY_MAX = 65536,
    REASON_MAX = 256,     /* as struct error's message */
    TAKE_WAIT_MS = 60000, /* outbox_wake ends it sooner */
};

/* What the answers so far say of the endpoint. */
struct endpoint {
    int64_t failures; /* in a row; 0: it is up */
    int64_t retry_at_ms;
    bool probing; /* somebody is trying whether it is back */
};

struct push {
    struct publisher publisher; /* first: what the callers hold */
    struct outbox *outbox;
    struct http_client *client;
    char *url;
    char *authorization; /* header line, or NULL */
    int64_t max_attempts;
    int64_t max_age_s;
    int64_t timeout_ms;
    int64_t max_backoff_ms;
    void (*delivered)(void *ctx, const struct outbox_row *row); /* may be NULL */
    void *delivered_ctx;

    pthread_mutex_t lock; /* all that follows */
    pthread_cond_t changed;
    struct endpoint endpoint;
    int64_t threads;
    int64_t in_call; /* of them: may be left behind by stop() */
    bool stopping;
    bool abandoned; /* stop() is over: the outbox may be gone */
    bool ownerless; /* freed: the last thread frees this */
};

static void push_destroy(struct push *p)
{
    http_client_free(p->client);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p->url);
    free(p->authorization);
    free(p);
}

static int64_t backoff_ms(int64_t failures, int64_t max_ms)
{
    int64_t cap = max_ms;

    if (failures < 20 && (int64_t)BACKOFF_MIN_MS << (failures - 1) < max_ms)
        cap = (int64_t)BACKOFF_MIN_MS << (failures - 1);
    return clock_jitter_ms(cap);
}

/* ---- the endpoint's state */

/* Wait until the endpoint may be called. False: stopping. */
static bool wait_until_open(struct push *p)
{
    pthread_mutex_lock(&p->lock);
    while (!p->stopping && p->endpoint.failures > 0) {
        if (p->endpoint.probing)
            pthread_cond_wait(&p->changed, &p->lock);
        else if (clock_left_ms(p->endpoint.retry_at_ms) == 0)
            break;
        else
            thread_cond_wait(&p->changed, &p->lock, p->endpoint.retry_at_ms);
    }
    bool ret = !p->stopping;
    pthread_mutex_unlock(&p->lock);
    return ret;
}

/* Begin a call, as the one probe if the endpoint is down. False: not now. */
static bool endpoint_enter(struct push *p, bool *probe)
{
    pthread_mutex_lock(&p->lock);
    bool down = p->endpoint.failures > 0;
    bool ret = !p->stopping &&
               (!down || (!p->endpoint.probing && clock_left_ms(p->endpoint.retry_at_ms) == 0));
    *probe = ret && down;
    if (*probe)
        p->endpoint.probing = true;
    p->in_call += ret;
    pthread_mutex_unlock(&p->lock);
    return ret;
}

/* End a call. Calls that began while the endpoint was up and fail after it went down say nothing
 * new. */
static void endpoint_leave(struct push *p, bool probe, bool reached, const char *reason)
{
    pthread_mutex_lock(&p->lock);
    struct endpoint *e = &p->endpoint;
    bool was_down = e->failures > 0;
    if (probe)
        e->probing = false;
    if (reached) {
        e->failures = 0;
    } else if (probe || !was_down) {
        e->failures++;
        e->retry_at_ms = clock_monotonic_ms() + backoff_ms(e->failures, p->max_backoff_ms);
    }
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (reached && was_down)
        log_info("push endpoint is back");
    else if (!reached && !was_down)
        log_warning("push endpoint is down", F("reason", reason));
}

/* ---- one delivery */

enum outcome { DELIVERED, REFUSED, HOPELESS, ENDPOINT_ERROR };

static enum outcome post(struct push *p, const struct outbox_row *row, struct bytes body,
                         char *reason, size_t reason_size)
{
    char traceparent[EVENT_TRACEPARENT_MAX + 16];
    const char *headers[4] = {"Content-Type: application/json"};
    size_t n = 1;
    struct error err = {0};
    CLEANUP(http_reply_done) struct http_reply reply = {0};

    if (p->authorization != NULL)
        headers[n++] = p->authorization;
    if (row->traceparent[0] != '\0') {
        snprintf(traceparent, sizeof(traceparent), "traceparent: %s", row->traceparent);
        headers[n++] = traceparent;
    }
    struct http_call call = {.method = "POST",
                             .url = p->url,
                             .headers = headers,
                             .body = body,
                             .deadline_ms = clock_monotonic_ms() + p->timeout_ms,
                             .max_reply_bytes = REPLY_MAX};
    if (!http_client_call(p->client, &call, &reply, &err)) {
        snprintf(reason, reason_size, "%s", err.message);
        /* A reply beyond all measure is an answer, though no acknowledgement; the rest never
         * reached the receiver, as far as one can tell. */
        return err.code == ERROR_TOO_LARGE ? REFUSED : ENDPOINT_ERROR;
    }
    long status = reply.status;
    snprintf(reason, reason_size, "HTTP status %ld", status);
    if (status == 200 || status == 201 || status == 202 || status == 204)
        return DELIVERED;
    return status >= 500 || status == 429 ? ENDPOINT_ERROR : REFUSED;
}

static enum outcome deliver(struct push *p, const struct outbox_row *row, char *reason,
                            size_t reason_size)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(ENVELOPE_MAX);
    struct error err = {0};

    if (envelope_write(row, &body, &err))
        return post(p, row, buffer_view(&body), reason, reason_size);
    snprintf(reason, reason_size, "%s", err.message);
    return error_is_passing(err.code) ? ENDPOINT_ERROR : HOPELESS;
}

/* ---- settling */

static bool is_last_refusal(const struct push *p, const struct outbox_row *row)
{
    int64_t age_ms = clock_wall_ms() - row->created_ms;

    return row->attempts + 1 >= p->max_attempts || age_ms / 1000 > p->max_age_s;
}

static void settle(struct push *p, const struct outbox_row *row, enum outcome outcome,
                   const char *reason)
{
    if (outcome == DELIVERED) {
        metric_add(METRIC_EVENTS, "outcome=\"delivered\"", 1);
        if (p->delivered != NULL)
            p->delivered(p->delivered_ctx, row);
        outbox_delivered(p->outbox, row);
        return;
    }
    if (outcome == ENDPOINT_ERROR) {
        metric_add(METRIC_EVENTS, "outcome=\"endpoint_error\"", 1);
        outbox_put_back(p->outbox, row);
        return;
    }
    if (outcome == REFUSED)
        metric_add(METRIC_EVENTS, "outcome=\"refused\"", 1);
    if (outcome == HOPELESS || is_last_refusal(p, row)) {
        metric_add(METRIC_EVENTS, "outcome=\"dead\"", 1);
        log_error("event is a dead letter", F("event_id", row->event_id),
                  F("gcs_path", row->gcs_path), F("attempts", row->attempts + 1),
                  F("reason", reason));
        outbox_dead_letter(p->outbox, row, reason);
        return;
    }
    log_warning("event was refused", F("event_id", row->event_id), F("gcs_path", row->gcs_path),
                F("attempts", row->attempts + 1), F("reason", reason));
    outbox_refused(p->outbox, row, backoff_ms(row->attempts + 1, p->max_backoff_ms), reason);
}

/* ---- threads */

static void *dispatcher_main(void *arg)
{
    struct push *p = arg;

    while (wait_until_open(p)) {
        CLEANUP(outbox_row_done) struct outbox_row row = {0};
        char reason[REASON_MAX];
        bool probe;

        if (!outbox_take(p->outbox, clock_monotonic_ms() + TAKE_WAIT_MS, &row))
            continue;
        if (!endpoint_enter(p, &probe)) { /* went down, or stops, while we waited for a row */
            outbox_put_back(p->outbox, &row);
            continue;
        }
        enum outcome outcome = deliver(p, &row, reason, sizeof(reason));
        endpoint_leave(p, probe, outcome != ENDPOINT_ERROR, reason);
        pthread_mutex_lock(&p->lock);
        p->in_call--;
        if (!p->abandoned) /* else the row stays pending: the next process delivers it again */
            settle(p, &row, outcome, reason);
        pthread_mutex_unlock(&p->lock);
    }
    pthread_mutex_lock(&p->lock);
    p->threads--;
    bool destroy = p->ownerless && p->threads == 0;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (destroy)
        push_destroy(p);
    return NULL;
}

static bool push_publish(struct publisher *self, const struct event *event, int64_t deadline_ms,
                         char message_id[MESSAGE_ID_MAX], struct error *err)
{
    struct push *p = (struct push *)self;

    if (!outbox_add(p->outbox, event, deadline_ms, message_id, err))
        return false;
    metric_add(METRIC_EVENTS, "outcome=\"published\"", 1);
    return true;
}

/* A call in progress cannot be interrupted, so its thread is left behind when the deadline passes:
 * it touches nothing but this object any more, which then lives until it is done. */
static void push_stop(struct publisher *self, int64_t deadline_ms)
{
    struct push *p = (struct push *)self;

    outbox_wake(p->outbox);
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->changed);
    while (p->threads > 0) {
        if (clock_left_ms(deadline_ms) > 0)
            thread_cond_wait(&p->changed, &p->lock, deadline_ms);
        else if (p->threads > p->in_call) /* about to end, and may be using the outbox */
            pthread_cond_wait(&p->changed, &p->lock);
        else
            break;
    }
    p->abandoned = true;
    pthread_mutex_unlock(&p->lock);
}

static void push_free(struct publisher *self)
{
    struct push *p = (struct push *)self;

    push_stop(self, clock_monotonic_ms());
    pthread_mutex_lock(&p->lock);
    p->ownerless = true;
    bool destroy = p->threads == 0;
    pthread_mutex_unlock(&p->lock);
    if (destroy)
        push_destroy(p);
}

static bool start_threads(struct push *p, int64_t count, struct error *err)
{
    bool ok = true;

    pthread_mutex_lock(&p->lock);
    while (ok && p->threads < count) {
        pthread_t thread;

        ok = thread_start(&thread, dispatcher_main, p, err);
        if (ok) {
            pthread_detach(thread);
            p->threads++;
        }
    }
    pthread_mutex_unlock(&p->lock);
    if (ok)
        return true;
    err->code = ERROR_CONFIG; /* at start, there is no later to try again */
    return error_wrap(err, "dispatcher");
}

struct publisher *push_publisher_new(struct outbox *outbox, const struct push_options *options,
                                     struct error *err)
{
    struct push *p = xcalloc(1, sizeof(*p));

    p->publisher = (struct publisher){push_publish, push_stop, push_free};
    p->outbox = outbox;
    p->client = http_client_share(options->client);
    p->max_attempts = options->max_attempts;
    p->max_age_s = options->max_age_s;
    p->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_MS;
    p->max_backoff_ms = options->max_backoff_ms > 0 ? options->max_backoff_ms : BACKOFF_MAX_MS;
    p->delivered = options->delivered;
    p->delivered_ctx = options->delivered_ctx;
    p->url = xstrdup(options->url);
    if (*options->token != '\0')
        p->authorization = xasprintf("Authorization: Bearer %s", options->token);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    if (start_threads(p, options->concurrency, err))
        return &p->publisher;
    push_stop(&p->publisher, INT64_MAX / 2);
    push_free(&p->publisher);
    return NULL;
}
