/* POST /pubsub: objects were announced; fetch each, label it, store the result, then acknowledge.
 * 200 means settled (labelled, ignored, or rejected for good), 503 means send it again. */
#include "announce.h"
#include "base/json_cost.h"
#include "base/log.h"
#include "base/metrics.h"
#include "classify.h"
#include "events/notification/notification.h"
#include "objects/result_key.h"
#include "result.h"

#include <string.h>

static void count(const char *outcome)
{
    char labels[METRIC_LABELS_MAX];

    snprintf(labels, sizeof(labels), "outcome=\"%s\"", outcome);
    metric_add(METRIC_EVENTS, labels, 1);
}

static struct reply reply_ok(const json_t *result)
{
    count("classified");
    return reply_json(200, json_pack("{s:s, s:O?, s:O?}", "status", "ok", "label",
                                     json_object_get(result, "label"), "confidence",
                                     json_object_get(result, "confidence")));
}

static struct reply reply_ignored(void)
{
    count("ignored");
    return reply_json(200, json_pack("{s:s}", "status", "ignored"));
}

static struct reply reply_rejected(const struct announcement *event, const char *detail)
{
    count("rejected");
    log_warning("rejected", F("event_id", (const char *)event->id),
                F("gcs_path", (const char *)event->uri), F("detail", detail));
    return reply_json(200, json_pack("{s:s, s:s}", "status", "rejected", "detail", detail));
}

/* The stored result says what became of the object, whichever it is. */
static struct reply reply_stored(const struct announcement *event, const json_t *result)
{
    const char *detail = json_string_value(json_object_get(result, "detail"));

    return detail != NULL ? reply_rejected(event, detail) : reply_ok(result);
}

/* An event about an object of ours that can never succeed: say so where the result is looked for,
 * and under rejected/. */
static struct reply reject(const struct app *app, const struct request *req,
                           const struct announcement *event, const struct result_subject *subject,
                           const struct error *why)
{
    struct error err = {0};
    json_t *result = json_pack("{s:s, s:s}", "status", "rejected", "detail", why->message);

    /* a key that storage cannot hold cannot have a result either */
    bool ok = (result_store(app, subject, result, req->deadline_ms, &err) ||
               err.code == ERROR_BAD_REQUEST) &&
              result_store_rejection(subject->object->store, event->source, event->id, event->uri,
                                     why->message, req->deadline_ms, &err);
    json_decref(result);
    return ok ? reply_rejected(event, why->message) : reply_error(&err);
}

/* Fetch, classify, store. On false *err says why; object->info.etag names the bytes, if there were
 * any. */
static bool make_result(const struct app *app, const struct request *req,
                        struct result_subject *subject, struct fetched *object, json_t **ret,
                        struct error *err)
{
    struct labels labels;

    if (!fetch_info(req, subject->object, object, err))
        return false;
    subject->etag = object->info.etag;
    if (!result_find(app, subject, req->deadline_ms, ret, err))
        return false;
    if (*ret != NULL) /* a duplicate */
        return true;
    if (!fetch_data(app, req, subject->object, object, err) ||
        !classify_image(app, req, buffer_view(&object->data), TOP_K_DEFAULT, &labels, err))
        return false;
    *ret = labels_to_json(model_manifest(app->model), &labels);
    return result_store(app, subject, *ret, req->deadline_ms, err);
}

static struct reply classify_object(const struct app *app, const struct request *req,
                                    const struct announcement *event, struct result_subject subject)
{
    CLEANUP(fetched_done) struct fetched object = {0};
    struct error err = {0};
    json_t *result = NULL;
    struct reply reply;

    if (make_result(app, req, &subject, &object, &result, &err) &&
        announce_result(app, req, event->traceparent, result, &err))
        reply = reply_stored(event, result);
    else if (error_http_status(err.code) >= 500)
        reply = reply_error(&err);
    else
        reply = reject(app, req, event, &subject, &err);
    json_decref(result);
    return reply;
}

/* What became of one event, and how it is told. */
enum outcome { IGNORED, SETTLED, PASSING };

static enum outcome handle_event(const struct app *app, const struct request *req,
                                 const struct announcement *event, struct reply *reply)
{
    struct object object;
    char longest[STORE_KEY_MAX + 1];
    struct error err = {0};

    if (event->uri == NULL) {
        *reply = reply_ignored();
        return IGNORED;
    }
    /* not ours to look at, or no URI at all: never recorded, since it names no object of ours */
    if (!store_set_find(app->readable, event->uri, &object.store, object.key, &err) ||
        !result_key(object.key, longest, sizeof(longest), &err)) {
        *reply = reply_rejected(event, err.message);
        return SETTLED;
    }
    if (key_is_output(object.key, store_prefix(object.store)) ||
        strcmp(event->origin, "classify-service") == 0) {
        *reply = reply_ignored();
        return IGNORED;
    }
    struct result_subject subject = {.object = &object, .uri = event->uri, .etag = ""};
    *reply = classify_object(app, req, event, subject);
    return reply->status == 200 ? SETTLED : PASSING;
}

/* Every event is handled, whatever becomes of the others: what is done stays done when the sender
 * tries again. Told is the first that passes, else the first that was not ignored. */
static struct reply handle_events(const struct app *app, const struct request *req,
                                  const struct notification *notification)
{
    enum outcome worst = IGNORED;
    struct reply told = {0};

    for (size_t i = 0; i < notification->count; i++) {
        struct reply reply;
        enum outcome outcome = handle_event(app, req, &notification->events[i], &reply);
        if (i == 0 || outcome > worst) {
            reply_done(&told);
            told = reply;
            worst = outcome;
        } else {
            reply_done(&reply);
        }
    }
    return told;
}

static const char *header_of(const void *ctx, const char *name)
{
    return request_header(ctx, name);
}

/* While it is parsed its memory is charged like that of the body. */
static bool read_notification(const struct request *req, struct notification *ret,
                              struct error *err)
{
    const struct notification_request sent = {.body = req->body, .header = header_of, .ctx = req};
    int64_t cost = json_cost(req->body);

    if (cost > NOTIFICATION_COST_MAX) /* it will be refused, unparsed */
        cost = 0;
    if (!byte_budget_take(req->budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room for %lld bytes of JSON", (long long)cost);
    bool ok = notification_read(&sent, ret, err);
    byte_budget_give(req->budget, cost);
    return ok;
}

struct reply handle_pubsub(const struct app *app, const struct request *req)
{
    CLEANUP(notification_done) struct notification notification = {0};
    struct error err = {0};

    if (!read_notification(req, &notification, &err))
        return reply_error(&err);
    return handle_events(app, req, &notification);
}
