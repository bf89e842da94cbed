/* POST /pubsub: events in, one status out. 200 acknowledges them (labelled, ignored, or rejected
 * for good), 503 asks the sender to repeat. */
#include "base/json.h"
#include "base/log.h"
#include "base/metrics.h"
#include "http/encoding.h"
#include "settle.h"

static void count(const char *outcome)
{
    char labels[METRIC_LABELS_MAX];

    snprintf(labels, sizeof(labels), "outcome=\"%s\"", outcome);
    metric_add(METRIC_EVENTS, labels, 1);
}

static struct reply reply_settlement(const struct announcement *event, const struct settlement *s)
{
    const char *detail = settlement_rejection(s);

    if (s->outcome == RETRY)
        return reply_error(&s->why);
    if (s->outcome == IGNORED) {
        count("ignored");
        return reply_json(200, json_pack("{s:s}", "status", "ignored"));
    }
    if (detail != NULL) {
        count("rejected");
        log_warning("rejected", F("event_id", (const char *)event->id),
                    F("gcs_path", event->uri != NULL ? (const char *)event->uri : ""),
                    F("detail", detail));
        return reply_json(200, json_pack("{s:s, s:s}", "status", "rejected", "detail", detail));
    }
    count("classified");
    return reply_json(200, json_pack("{s:s, s:O?, s:O?}", "status", "ok", "label",
                                     json_object_get(s->result, "label"), "confidence",
                                     json_object_get(s->result, "confidence")));
}

/* Handle every event, even when one fails: the sender repeats the whole request, and finished
 * events are cheap to repeat. The reply is the first of the worst outcome. */
static struct reply handle_events(const struct app *app, const struct context *ctx,
                                  const struct notification *notification)
{
    enum outcome worst = IGNORED;
    struct reply ret = {0};

    for (size_t i = 0; i < notification->count; i++) {
        CLEANUP(settlement_done) struct settlement settlement;
        settle(app, ctx, &notification->events[i], &settlement);
        struct reply reply = reply_settlement(&notification->events[i], &settlement);
        if (i == 0 || settlement.outcome > worst) {
            reply_done(&ret);
            ret = reply;
            worst = settlement.outcome;
        } else {
            reply_done(&reply);
        }
    }
    return ret;
}

/* While it is parsed its memory is charged like that of the body. */
static bool read_notification(const struct request *req, struct notification *ret,
                              struct error *err)
{
    int64_t cost = json_cost(req->body);

    if (cost > NOTIFICATION_COST_MAX) /* it will be refused, unparsed */
        cost = 0;
    if (!byte_budget_take(req->context.budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room for %lld bytes of JSON", (long long)cost);
    bool ok = notification_read(req, ret, err);
    byte_budget_give(req->context.budget, cost);
    return ok;
}

struct reply handle_pubsub(const struct app *app, const struct request *req)
{
    CLEANUP(notification_done) struct notification notification = {0};
    CLEANUP(decoded_body_done) struct decoded_body body = {0};
    struct request plain = *req;
    struct error err = {0};

    if (!body_decode(req, NOTIFICATION_BYTES_MAX, &body, &err))
        return reply_error(&err);
    plain.body = body.bytes;
    if (!read_notification(&plain, &notification, &err))
        return reply_error(&err);
    return handle_events(app, &req->context, &notification);
}
