#include "source.h"

#include "base/clock.h"
#include "base/log.h"
#include "settle.h"

#include <string.h>

enum {
    /* An attempt that fails is repeated here, since the broker counts what is given back to it
     * (AMQP_DELIVERY_LIMIT). After HOLD_MS others get their turn: far below the half hour after
     * which RabbitMQ takes a message away from whoever does not acknowledge it. */
    HOLD_MS = 10000,
    PAUSE_FIRST_MS = 100,
    PAUSE_MOST_MS = 5000,
    DEFECTS_MAX = 5, /* attempts with an error that is no passing one */
};

static struct context context_of(struct app *app, const struct amqp_incoming *incoming)
{
    const char *trace = json_string_value(json_object_get(incoming->headers, "traceparent"));

    return (struct context){
        .id = request_id_is_valid(incoming->message_id) ? incoming->message_id : "",
        .traceparent = trace != NULL && traceparent_is_valid(trace) ? trace : "",
        .who = "",
        .deadline_ms = clock_monotonic_ms() + app->service.settings.request_timeout_ms,
        .budget = &app->service.budget,
    };
}

/* What is reported is what the sender is told, if it wants to be. */
static void conclude(json_t *report, struct amqp_verdict *verdict)
{
    const char *detail = json_string_value(json_object_get(report, "detail"));

    verdict->outcome = detail != NULL ? AMQP_DEAD_LETTER : AMQP_HANDLED;
    snprintf(verdict->reason, sizeof(verdict->reason), "%s", detail != NULL ? detail : "");
    verdict->reply = json_dumps(report, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(report);
}

void source_refuse(const struct amqp_incoming *incoming, const struct error *why,
                   struct amqp_verdict *verdict)
{
    log_warning("a message becomes a dead letter",
                F("message_id", (const char *)incoming->message_id),
                F("detail", (const char *)why->message));
    conclude(json_pack("{s:s, s:s}", "status", "rejected", "detail", error_public_detail(why)),
             verdict);
    snprintf(verdict->reason, sizeof(verdict->reason), "%s", why->message);
}

static bool may_repeat(const struct amqp_delivery *delivery, int attempts)
{
    int64_t most_ms = PAUSE_FIRST_MS;

    for (int i = 1; i < attempts && most_ms < PAUSE_MOST_MS; i++)
        most_ms *= 2;
    return amqp_delivery_pause(delivery, 1 + clock_jitter_ms(most_ms));
}

void source_handle(struct app *app, const struct amqp_delivery *delivery,
                   const struct amqp_incoming *incoming, source_attempt attempt,
                   const void *message, struct amqp_verdict *verdict)
{
    int64_t began_ms = clock_monotonic_ms(), until_ms = began_ms + HOLD_MS;
    int defects = 0;

    for (int attempts = 1;; attempts++) {
        struct error err = {0};
        const struct context ctx = context_of(app, incoming);
        json_t *report = attempt(app, &ctx, message, &err);
        if (report != NULL) {
            log_info("message", F("message_id", (const char *)incoming->message_id),
                     F("redelivered", incoming->redelivered), F("attempts", attempts),
                     F("seconds", (double)(clock_monotonic_ms() - began_ms) / 1000));
            conclude(report, verdict);
            return;
        }
        if (!error_is_passing(err.code) && ++defects == DEFECTS_MAX) {
            source_refuse(incoming, &err, verdict);
            return;
        }
        if (attempts == 1)
            log_warning("a message is held until its object can be labelled",
                        F("message_id", (const char *)incoming->message_id),
                        F("error", (const char *)err.message));
        if (clock_left_ms(until_ms) == 0) {
            verdict->outcome = AMQP_GIVE_BACK;
            return;
        }
        if (!may_repeat(delivery, attempts))
            return;
    }
}

static json_t *attempt_notification(struct app *app, const struct context *ctx,
                                    const void *notification, struct error *err)
{
    return settle_all(app, ctx, notification, err);
}

static void handle(void *ctx, const struct amqp_delivery *delivery,
                   const struct amqp_incoming *incoming, struct amqp_verdict *verdict)
{
    CLEANUP(notification_done) struct notification notification = {0};
    const struct announced from = {.source = AMQP_IMAGES, .id = incoming->message_id};
    struct error err = {0};

    if (incoming->too_large)
        error_set(&err, ERROR_TOO_LARGE, "a message of more than %d bytes", AMQP_BODY_MAX);
    if (incoming->too_large ||
        !notification_read_message(buffer_view(&incoming->body), incoming->headers, &from,
                                   &notification, &err))
        source_refuse(incoming, &err, verdict);
    else
        source_handle(ctx, delivery, incoming, attempt_notification, &notification, verdict);
}

bool source_start(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;
    struct amqp_consumer_options options = {
        .broker = {.url = s->source_url, .ca_file = s->ca_file},
        .queue = AMQP_IMAGES,
        .threads = (int)s->workers,
        .handle = handle,
        .ctx = app,
    };

    if (*s->source_url == '\0')
        return true;
    app->source = amqp_consumer_start(&options, err);
    if (app->source != NULL && s->amqp_old_queue) {
        options.broker.older = true;
        options.queue = AMQP_OLDER;
        options.handle = older_queue_handle;
        app->older_source = amqp_consumer_start(&options, err);
    }
    return (app->source != NULL && (app->older_source != NULL || !s->amqp_old_queue)) ||
           error_wrap(err, "SOURCE_URL");
}

void source_leave(struct app *app)
{
    if (app->source != NULL)
        amqp_consumer_leave(app->source);
    if (app->older_source != NULL)
        amqp_consumer_leave(app->older_source);
}

void source_stop(struct app *app, int64_t deadline_ms)
{
    if (app->source != NULL)
        amqp_consumer_stop(app->source, deadline_ms);
    if (app->older_source != NULL)
        amqp_consumer_stop(app->older_source, deadline_ms);
}

void source_done(struct app *app)
{
    amqp_consumer_free(app->source);
    amqp_consumer_free(app->older_source);
}
