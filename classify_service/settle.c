#include "settle.h"

#include "base/log.h"
#include "base/metrics.h"
#include "classify.h"
#include "objects/result_key.h"
#include "result.h"

#include <string.h>

struct settlement {
    /* In the order of their weight. RETRY: it may succeed when the sender repeats it. */
    enum outcome { IGNORED, SETTLED, RETRY } outcome;
    json_t *result;   /* SETTLED: as it is stored, if it is */
    struct error why; /* RETRY, or SETTLED without a result */
};

/* ---- announcing: data {"gcs_path", "label", "confidence"}, attributes origin=classify-service,
 * event_id, traceparent.
 *
 * At least once: an event whose result is there already is announced again, since the one who
 * stored it may have been killed before it could. The event_id says that it is the same: lower-case
 * hex SHA-256 of "<gcs_path>\n<source_etag>\n<model_sha256>". */

static struct bytes member(const json_t *result, const char *name)
{
    const char *value = json_string_value(json_object_get(result, name));

    return bytes_from_str(value != NULL ? value : "");
}

static bool event_id_of(const json_t *result, char out[SHA256_HEX_LEN + 1], struct error *err)
{
    const struct bytes newline = bytes_of("\n", 1);
    const struct bytes parts[] = {member(result, "gcs_path"), newline,
                                  member(result, "source_etag"), newline,
                                  member(result, "model_sha256")};

    return string_sha256_hex(parts, ARRAY_SIZE(parts), out, err);
}

static char *data_of(const json_t *result)
{
    json_t *data = json_pack("{s:O?, s:O?, s:O?}", "gcs_path", json_object_get(result, "gcs_path"),
                             "label", json_object_get(result, "label"), "confidence",
                             json_object_get(result, "confidence"));
    char *text = data != NULL ? json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

    json_decref(data);
    return text;
}

static bool publish(const struct app *app, const struct context *ctx,
                    const struct pubsub_message *message, struct error *err)
{
    char message_id[MESSAGE_ID_MAX];
    double started = clock_monotonic_s();
    bool ok = pubsub_publish(app->results, message, ctx->deadline_ms, message_id, err);

    stage_took(ctx->stages, STAGE_PUBLISH, clock_monotonic_s() - started);
    if (ok)
        metric_add(METRIC_EVENTS, "outcome=\"published\"", 1);
    return ok;
}

/* Publish a result as it is stored. True at once without CLASS_TOPIC, and for the result of a
 * rejection, which has no label. Every error is a passing one. `traceparent` is the event's; unless
 * it is valid, the request's goes out. */
static bool announce_result(const struct app *app, const struct context *ctx,
                            const char *traceparent, const json_t *result, struct error *err)
{
    char event_id[SHA256_HEX_LEN + 1];

    if (app->results == NULL || json_object_get(result, "label") == NULL)
        return true;
    CLEANUP_FREE char *data = data_of(result);
    if (data == NULL)
        return error_oom(err);
    if (!event_id_of(result, event_id, err)) {
        err->code = ERROR_UNAVAILABLE;
        return error_wrap(err, "CLASS_TOPIC");
    }
    const struct pubsub_message message = {
        .data = bytes_from_str(data),
        .attributes = {{"origin", "classify-service"},
                       {"event_id", event_id},
                       {"traceparent",
                        traceparent_is_valid(traceparent) ? traceparent : ctx->traceparent}},
    };
    return publish(app, ctx, &message, err) || error_wrap(err, "CLASS_TOPIC");
}

/* ---- one object */

/* On false *err says why; object->info.etag names the bytes, if there were any. */
static bool label(const struct app *app, const struct context *ctx, struct result_subject *subject,
                  struct fetched *object, json_t **ret, struct error *err)
{
    struct labels labels;

    if (!fetch_info(ctx, subject->object, object, err))
        return false;
    subject->etag = object->info.etag;
    if (!result_find(app, ctx, subject, ret, err))
        return false;
    if (*ret != NULL) /* a duplicate */
        return true;
    if (!fetch_data(app, ctx, subject->object, object, err) ||
        !classify_image(app, ctx, buffer_view(&object->data), TOP_K_DEFAULT, &labels, err))
        return false;
    *ret = labels_to_json(model_manifest(app->model), &labels);
    return result_store(app, ctx, subject, *ret, err);
}

/* The object can never be labelled: say so where the result is looked for, and under rejected/. */
static bool reject(const struct app *app, const struct context *ctx,
                   const struct announcement *event, const struct result_subject *subject,
                   struct settlement *s, struct error *err)
{
    json_decref(s->result);
    s->result = json_pack("{s:s, s:s}", "status", "rejected", "detail", s->why.message);
    /* a key that storage cannot hold cannot have a result either */
    return (result_store(app, ctx, subject, s->result, err) || err->code == ERROR_BAD_REQUEST) &&
           result_store_rejection(ctx, subject->object->store, event, s->why.message, err);
}

static void settle_object(const struct app *app, const struct context *ctx,
                          const struct announcement *event, const struct object *object,
                          struct settlement *s)
{
    CLEANUP(fetched_done) struct fetched fetched = {0};
    struct result_subject subject = {.object = object, .uri = event->uri, .etag = ""};
    struct error err = {0};

    s->outcome = SETTLED;
    if (label(app, ctx, &subject, &fetched, &s->result, &s->why) &&
        announce_result(app, ctx, event->traceparent, s->result, &s->why))
        return;
    if (error_http_status(s->why.code) < 500) { /* the object's fault */
        if (reject(app, ctx, event, &subject, s, &err))
            return;
        s->why = err;
    }
    s->outcome = RETRY;
}

static void settle(const struct app *app, const struct context *ctx,
                   const struct announcement *event, struct settlement *ret)
{
    struct object object;
    char longest[STORE_KEY_MAX + 1];

    *ret = (struct settlement){.outcome = IGNORED};
    if (event->flaw != NULL) {
        error_set(&ret->why, ERROR_BAD_REQUEST, "%s", event->flaw);
        ret->outcome = SETTLED;
        return;
    }
    if (event->uri == NULL)
        return;
    /* no URI, or one outside ALLOWED_BUCKETS: never recorded, since it names no object of ours */
    if (!store_set_find(app->readable, event->uri, &object.store, object.key, &ret->why) ||
        !result_key(object.key, longest, sizeof(longest), &ret->why))
        ret->outcome = SETTLED;
    else if (!key_is_output(object.key, store_prefix(object.store)) &&
             strcmp(event->origin, "classify-service") != 0)
        settle_object(app, ctx, event, &object, ret);
}

/* Why the object was rejected for good; NULL when it was not. */
static const char *settlement_rejection(const struct settlement *s)
{
    if (s->outcome != SETTLED)
        return NULL;
    return s->result != NULL ? json_string_value(json_object_get(s->result, "detail"))
                             : s->why.message;
}

static void settlement_done(struct settlement *s)
{
    json_decref(s->result);
    *s = (struct settlement){0};
}

/* ---- all of a notification */

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
