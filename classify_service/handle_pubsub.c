/* POST /pubsub: an object was announced; fetch it, label it, store the result, then acknowledge.
 * 200 means settled (labelled, ignored, or rejected for good), 503 means send it again. */
#include "base/log.h"
#include "base/metrics.h"
#include "classify.h"
#include "events/envelope.h"
#include "result.h"

#include <string.h>
#include <strings.h>

static bool authorize(const struct app *app, const struct request *req, struct error *err)
{
    static const char scheme[] = "Bearer ";
    const char *token = app->service.settings.push_token;
    const char *given = request_header(req, "Authorization");

    if (*token == '\0')
        return true;
    if (given == NULL || strncasecmp(given, scheme, strlen(scheme)) != 0 ||
        !string_equal_constant_time(given + strlen(scheme), token))
        return error_set(err, ERROR_UNAUTHORIZED, "send the PUSH_TOKEN as Bearer authorization");
    return true;
}

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

static struct reply reply_rejected(const struct envelope *event, const char *detail)
{
    count("rejected");
    log_warning("rejected", F("event_id", (const char *)event->message_id),
                F("gcs_path", (const char *)event->gcs_path), F("detail", detail));
    return reply_json(200, json_pack("{s:s, s:s}", "status", "rejected", "detail", detail));
}

/* The stored result says what became of the object, whichever it is. */
static struct reply reply_stored(const struct envelope *event, const json_t *result)
{
    const char *detail = json_string_value(json_object_get(result, "detail"));

    return detail != NULL ? reply_rejected(event, detail) : reply_ok(result);
}

/* An event about an object of ours that can never succeed: say so where the result is looked for,
 * and under rejected/. */
static struct reply reject(const struct app *app, const struct request *req,
                           const struct envelope *event, const struct result_subject *subject,
                           const struct error *why)
{
    struct error err = {0};
    json_t *result = json_pack("{s:s, s:s}", "status", "rejected", "detail", why->message);

    /* a key that storage cannot hold cannot have a result either */
    bool ok = (result_store(app, subject, result, req->deadline_ms, &err) ||
               err.code == ERROR_BAD_REQUEST) &&
              result_store_rejection(subject->object->store, event->source, event->message_id,
                                     event->gcs_path, why->message, req->deadline_ms, &err);
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
                                    const struct envelope *event, struct result_subject subject)
{
    CLEANUP(fetched_done) struct fetched object = {0};
    struct error err = {0};
    json_t *result = NULL;
    struct reply reply;

    if (make_result(app, req, &subject, &object, &result, &err))
        reply = reply_stored(event, result);
    else if (error_http_status(err.code) >= 500)
        reply = reply_error(&err);
    else
        reply = reject(app, req, event, &subject, &err);
    json_decref(result);
    return reply;
}

struct reply handle_pubsub(const struct app *app, const struct request *req)
{
    CLEANUP(envelope_done) struct envelope event = {0};
    struct object object;
    char longest[RESULT_KEY_MAX + 1];
    struct error err = {0};

    if (!authorize(app, req, &err)) {
        struct reply reply = reply_error(&err);
        reply_add_header(&reply, "WWW-Authenticate", "Bearer");
        return reply;
    }
    if (!envelope_read(req->body, &event, &err))
        return reply_error(&err);
    /* not ours to look at, or no URI at all: never recorded, since it names no object of ours */
    if (!store_set_find(app->readable, event.gcs_path, &object.store, object.key, &err) ||
        !result_key(object.key, longest, &err))
        return reply_rejected(&event, err.message);
    if (result_is_own_output(&object) || strcmp(event.origin, "classify-service") == 0)
        return reply_ignored();
    struct result_subject subject = {.object = &object, .uri = event.gcs_path, .etag = ""};
    return classify_object(app, req, &event, subject);
}
