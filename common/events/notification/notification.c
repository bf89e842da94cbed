#include "events/notification/notification.h"

#include "events/notification/cloudevent.h"
#include "events/notification/pubsub_message.h"
#include "events/notification/s3_notification.h"

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
