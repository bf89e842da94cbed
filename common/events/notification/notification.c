#include "events/notification/notification.h"

#include "base/strings.h"
#include "base/xmalloc.h"
#include "events/notification/formats.h"

#include <string.h>

static void announcement_done(struct announcement *event)
{
    free(event->uri);
    free(event->source);
    free(event->id);
    free(event->origin);
    free(event->traceparent);
    *event = (struct announcement){0};
}

void notification_done(struct notification *notification)
{
    for (size_t i = 0; i < notification->count; i++)
        announcement_done(&notification->events[i]);
    free(notification->events);
    *notification = (struct notification){0};
}

static bool copy(const char *text, char **ret, struct error *err)
{
    if (text == NULL)
        text = "";
    if (!string_is_utf8(bytes_from_str(text)))
        return error_set(err, ERROR_BAD_REQUEST, "the event's text is not UTF-8");
    *ret = strdup(text);
    return *ret != NULL || error_oom(err);
}

bool notification_add(struct notification *notification, const struct announced *event,
                      struct error *err)
{
    size_t count = notification->count;

    notification->events =
        xreallocarray(notification->events, count + 1, sizeof(*notification->events));
    struct announcement *added = &notification->events[count];
    *added = (struct announcement){.flaw = event->flaw};
    if ((event->uri == NULL || copy(event->uri, &added->uri, err)) &&
        copy(event->source, &added->source, err) && copy(event->id, &added->id, err) &&
        copy(event->origin, &added->origin, err) &&
        copy(event->traceparent, &added->traceparent, err)) {
        notification->count++;
        return true;
    }
    announcement_done(added);
    return false;
}

json_t *notification_parse(struct bytes text, const char *what, struct error *err)
{
    struct error why = {0};

    if (json_cost(text) > NOTIFICATION_COST_MAX) {
        error_set(err, ERROR_TOO_LARGE, "%s has too many JSON values", what);
        return NULL;
    }
    json_t *ret = json_read(text, JSON_REJECT_DUPLICATES, &why);

    if (json_is_object(ret))
        return ret;
    error_set(err, ERROR_BAD_REQUEST, "%s is not a JSON object%s%.80s", what,
              ret == NULL ? ": " : "", why.message);
    json_decref(ret);
    return NULL;
}

bool notification_text(const json_t *object, const char *name, const char **ret, struct error *err)
{
    const json_t *value = json_object_get(object, name);

    *ret = value == NULL ? "" : json_string_value(value);
    return *ret != NULL || error_set(err, ERROR_BAD_REQUEST, "%s is not a string", name);
}

bool notification_resource(const json_t *resource, const char **bucket, const char **name)
{
    const char *in = json_string_value(json_object_get(resource, "bucket"));
    const char *called = json_string_value(json_object_get(resource, "name"));

    if (in == NULL || *in == '\0' || called == NULL || *called == '\0')
        return false;
    *bucket = in;
    *name = called;
    return true;
}

/* The formats that no header tells apart. */
static bool read_body(const struct request *req, struct notification *ret, struct error *err)
{
    CLEANUP_JSON json_t *body = notification_parse(req->body, "the body", err);

    if (body == NULL)
        return false;
    if (json_is_object(json_object_get(body, "message")))
        return pubsub_push_read(body, NULL, ret, err);
    if (pubsub_is_unwrapped(req))
        return pubsub_unwrapped_read(req, ret, err);
    if (s3_notification_is(body))
        return s3_notification_read(body, ret, err);
    return error_set(err, ERROR_BAD_REQUEST,
                     "neither a Pub/Sub push, nor a CloudEvent, nor an S3 event notification");
}

bool notification_read(const struct request *req, struct notification *ret, struct error *err)
{
    CLEANUP(notification_done) struct notification found = {0};
    bool ok;

    if (req->body.len > NOTIFICATION_BYTES_MAX)
        return error_set(err, ERROR_TOO_LARGE, "a notification of more than %d bytes",
                         NOTIFICATION_BYTES_MAX);
    if (cloudevent_is_structured(req) || cloudevent_is_binary(req))
        ok = cloudevent_read(req, &found, err);
    else if (pubsub_is_unwrapped(req) && req->body.len == 0)
        ok = pubsub_unwrapped_read(req, &found, err); /* a message may be all attributes */
    else
        ok = read_body(req, &found, err);
    if (!ok)
        return false;
    *ret = found;
    found = (struct notification){0};
    return true;
}

bool notification_read_message(struct bytes body, const json_t *attributes,
                               const struct announced *from, struct notification *ret,
                               struct error *err)
{
    CLEANUP(notification_done) struct notification found = {0};
    CLEANUP_JSON json_t *json = body.len > 0 ? notification_parse(body, "the message", err) : NULL;

    if (json == NULL && body.len > 0)
        return false;
    if (s3_notification_is(json) ? !s3_notification_read(json, &found, err)
                                 : !pubsub_plain_read(body, attributes, from, &found, err))
        return false;
    *ret = found;
    found = (struct notification){0};
    return true;
}
