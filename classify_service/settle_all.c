#include "settle_all.h"

#include "base/log.h"
#include "base/metrics.h"

static void count(const char *outcome)
{
    char labels[METRIC_LABELS_MAX];

    snprintf(labels, sizeof(labels), "outcome=\"%s\"", outcome);
    metric_add(METRIC_EVENTS, labels, 1);
}

/* NULL: RETRY. */
static json_t *report(const struct announcement *event, const struct settlement *s)
{
    const char *detail = settlement_rejection(s);

    if (s->outcome == RETRY)
        return NULL;
    if (s->outcome == IGNORED) {
        count("ignored");
        return json_pack("{s:s}", "status", "ignored");
    }
    if (detail != NULL) {
        count("rejected");
        log_warning("rejected", F("event_id", (const char *)event->id),
                    F("gcs_path", event->uri != NULL ? (const char *)event->uri : ""),
                    F("detail", detail));
        return json_pack("{s:s, s:s}", "status", "rejected", "detail", detail);
    }
    count("classified");
    return json_pack("{s:s, s:O?, s:O?}", "status", "ok", "label",
                     json_object_get(s->result, "label"), "confidence",
                     json_object_get(s->result, "confidence"));
}

json_t *settle_all(const struct app *app, const struct context *ctx,
                   const struct notification *notification, struct error *err)
{
    enum outcome worst = IGNORED;
    json_t *ret = NULL;

    for (size_t i = 0; i < notification->count; i++) {
        CLEANUP(settlement_done) struct settlement settlement;
        settle(app, ctx, &notification->events[i], &settlement);
        json_t *reported = report(&notification->events[i], &settlement);
        if (i > 0 && settlement.outcome <= worst) {
            json_decref(reported);
            continue;
        }
        json_decref(ret);
        ret = reported;
        worst = settlement.outcome;
        if (worst == RETRY)
            *err = settlement.why;
    }
    return ret;
}
