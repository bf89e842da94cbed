/* Pub/Sub pushes. Sources of the formats, Google's documentation: Pub/Sub, "Push subscriptions"
 * (wrapped) and "Payload unwrapping" (unwrapped, with metadata); Cloud Storage, "Pub/Sub
 * notifications for Cloud Storage". */
#include "base/strings.h"
#include "events/notification/formats.h"

#include <string.h>

/* One message, whether its parts came in an envelope or in headers. Borrowed. */
struct message {
    struct bytes data;             /* decoded */
    const json_t *attributes;      /* wrapped */
    const struct request *headers; /* unwrapped: attributes are headers */
    const char *source, *id;
    bool id_is_final; /* the event_id of the publisher says nothing better */
};

static bool attribute(const struct message *m, const char *name, const char **ret,
                      struct error *err)
{
    if (m->headers == NULL)
        return notification_text(m->attributes, name, ret, err);
    *ret = request_header(m->headers, name);
    if (*ret == NULL)
        *ret = "";
    return true;
}

/* A message of Cloud Storage: `event_type` is its attribute. The resource has the object's name
 * whole, since a header cannot hold every name. */
static bool add_gcs(const struct message *m, const char *event_type, const json_t *data,
                    struct announced *event, struct notification *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer uri = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    const char *bucket, *name;

    if (!attribute(m, "bucketId", &bucket, err) || !attribute(m, "objectId", &name, err))
        return false;
    if (!notification_resource(data, &bucket, &name) && (*bucket == '\0' || *name == '\0'))
        return error_set(err, ERROR_BAD_REQUEST,
                         "a message with an eventType, but without bucketId and objectId");
    if (strcmp(event_type, "OBJECT_FINALIZE") == 0) {
        if (!buffer_printf(&uri, err, "gs://%s/%s", bucket, name))
            return false;
        event->uri = (const char *)uri.data;
    }
    return notification_add(ret, event, err);
}

static bool add_message(const struct message *m, struct notification *ret, struct error *err)
{
    struct announced event = {.source = m->source};
    const char *own_id, *event_type;

    if (!attribute(m, "origin", &event.origin, err) ||
        !attribute(m, "traceparent", &event.traceparent, err) ||
        !attribute(m, "event_id", &own_id, err) || !attribute(m, "eventType", &event_type, err))
        return false;
    /* a publisher that tried again has made a new message of the same event */
    event.id = *own_id != '\0' && !m->id_is_final ? own_id : m->id;
    if (m->data.len == 0 && *event_type == '\0') {
        if (m->headers == NULL && json_object_size(m->attributes) == 0)
            return error_set(err, ERROR_BAD_REQUEST, "the message has no data and no attributes");
        event.flaw = "the message has attributes only; it names no object";
        return notification_add(ret, &event, err);
    }
    CLEANUP_JSON json_t *data =
        m->data.len == 0 ? NULL : notification_parse(m->data, "the message's data", err);
    if (data == NULL && m->data.len > 0)
        return false;
    if (json_object_get(data, "gcs_path") == NULL && *event_type != '\0')
        return add_gcs(m, event_type, data, &event, ret, err);
    if (!notification_text(data, "gcs_path", &event.uri, err))
        return error_wrap(err, "the message's data");
    if (*event.uri == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "the message's data has no gcs_path");
    return notification_add(ret, &event, err);
}

bool pubsub_push_read(const json_t *envelope, const struct announced *event,
                      struct notification *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    const json_t *message = json_object_get(envelope, "message");
    struct message m = {.attributes = json_object_get(message, "attributes")};
    const char *text;

    if (!json_is_object(message))
        return error_set(err, ERROR_BAD_REQUEST, "not a Pub/Sub push envelope: no message object");
    if (m.attributes != NULL && !json_is_object(m.attributes))
        return error_set(err, ERROR_BAD_REQUEST, "the message's attributes are not an object");
    const char *id_name = json_object_get(message, "messageId") ? "messageId" : "message_id";
    if (!notification_text(envelope, "subscription", &m.source, err) ||
        !notification_text(message, id_name, &m.id, err) ||
        !notification_text(message, "data", &text, err))
        return error_wrap(err, "not a Pub/Sub push envelope");
    if (!string_base64_decode(text, &data, err))
        return error_wrap(err, "message data");
    m.data = buffer_view(&data);
    if (event != NULL) {
        m.source = event->source;
        m.id = event->id;
        m.id_is_final = true;
    }
    return add_message(&m, ret, err);
}

bool pubsub_plain_read(struct bytes data, const json_t *attributes, const struct announced *from,
                       struct notification *ret, struct error *err)
{
    return add_message(
        &(struct message){
            .data = data, .attributes = attributes, .source = from->source, .id = from->id},
        ret, err);
}

static const char message_id[] = "x-goog-pubsub-message-id";
static const char subscription[] = "x-goog-pubsub-subscription-name";

bool pubsub_is_unwrapped(const struct request *req)
{
    return request_header(req, message_id) != NULL || request_header(req, subscription) != NULL;
}

bool pubsub_unwrapped_read(const struct request *req, struct notification *ret, struct error *err)
{
    return add_message(
        &(struct message){
            .data = req->body,
            .headers = req,
            .source = request_header(req, subscription),
            .id = request_header(req, message_id),
        },
        ret, err);
}
