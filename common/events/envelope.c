#include "events/envelope.h"

#include "base/clock.h"

#include <jansson.h>
#include <string.h>

static const char subscription[] = "projects/darkroom/subscriptions/embedded-outbox";

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define CLEANUP_JSON CLEANUP(cleanup_json)

/* ---- writing */

static bool append_json(const json_t *json, struct buffer *out, struct error *err)
{
    CLEANUP_FREE char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);

    return text == NULL ? error_oom(err) : buffer_append_str(out, text, err);
}

static json_t *attributes_of(const struct outbox_row *row)
{
    json_t *ret = json_pack("{s:s, s:s, s:s}", "origin", "preprocess-service", "event_id",
                            row->event_id, "content_type", row->content_type);

    if (ret != NULL && row->traceparent[0] != '\0' &&
        json_object_set_new(ret, "traceparent", json_string(row->traceparent)) != 0) {
        json_decref(ret);
        return NULL;
    }
    return ret;
}

static json_t *message_of(const struct outbox_row *row, const char *data)
{
    char time[CLOCK_RFC3339_LEN];
    json_t *attributes = attributes_of(row);

    clock_rfc3339(row->created_ms, time);
    /* "o" takes the attributes over even when packing fails */
    return attributes == NULL
               ? NULL
               : json_pack("{s:s, s:o, s:s, s:s, s:s, s:s}", "data", data, "attributes", attributes,
                           "messageId", row->event_id, "message_id", row->event_id, "publishTime",
                           time, "publish_time", time);
}

bool envelope_write(const struct outbox_row *row, struct buffer *out, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(ENVELOPE_MAX);
    CLEANUP(buffer_done) struct buffer base64 = BUFFER_MAX(ENVELOPE_MAX);

    if (!string_is_utf8(bytes_from_str(row->gcs_path)) ||
        !string_is_utf8(bytes_from_str(row->content_type)) ||
        !string_is_utf8(bytes_from_str(row->traceparent)))
        return error_set(err, ERROR_BAD_REQUEST, "the event's text is not UTF-8");
    CLEANUP_JSON json_t *inner = json_pack("{s:s, s:s}", "gcs_path", row->gcs_path, "id", row->id);
    if (!append_json(inner, &data, err) || !string_base64_encode(buffer_view(&data), &base64, err))
        return false;
    const char *text = buffer_cstr(&base64, err);
    if (text == NULL)
        return false;
    json_t *message = message_of(row, text);
    if (message == NULL)
        return error_oom(err);
    CLEANUP_JSON json_t *envelope =
        json_pack("{s:o, s:s}", "message", message, "subscription", subscription);
    if (envelope != NULL && row->attempts > 0 &&
        json_object_set_new(envelope, "deliveryAttempt", json_integer(row->attempts + 1)) != 0)
        return error_oom(err);
    return append_json(envelope, out, err);
}

/* ---- reading */

static bool not_an_envelope(struct error *err, const char *why)
{
    return error_set(err, ERROR_BAD_REQUEST, "not a Pub/Sub push envelope: %s", why);
}

/* A heap copy of a string member; "" when it is absent. */
static bool copy_string(const json_t *object, const char *key, char **ret, struct error *err)
{
    const json_t *value = json_object_get(object, key);

    if (value != NULL && !json_is_string(value))
        return error_set(err, ERROR_BAD_REQUEST, "not a Pub/Sub push envelope: %s is not a string",
                         key);
    *ret = strdup(value == NULL ? "" : json_string_value(value));
    return *ret != NULL || error_oom(err);
}

static json_t *parse_object(struct bytes text, const char *what, struct error *err)
{
    json_error_t json_err;
    json_t *ret = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &json_err);

    if (ret == NULL && json_error_code(&json_err) == json_error_out_of_memory) {
        error_oom(err);
    } else if (!json_is_object(ret)) {
        error_set(err, ERROR_BAD_REQUEST, "%s is not a JSON object%s%.80s", what,
                  ret == NULL ? ": " : "", ret == NULL ? json_err.text : "");
        json_decref(ret);
        return NULL;
    }
    return ret;
}

static bool read_data(const json_t *message, struct envelope *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(ENVELOPE_MAX);
    const json_t *encoded = json_object_get(message, "data");

    if (encoded == NULL)
        return error_set(err, ERROR_BAD_REQUEST, "the message has no data");
    if (!json_is_string(encoded))
        return not_an_envelope(err, "data is not a string");
    if (!string_base64_decode(json_string_value(encoded), &data, err))
        return error_wrap(err, "message data");
    CLEANUP_JSON json_t *inner = parse_object(buffer_view(&data), "the message's data", err);
    if (inner == NULL)
        return false;
    const json_t *path = json_object_get(inner, "gcs_path");
    if (!json_is_string(path) || json_string_length(path) == 0)
        return error_set(err, ERROR_BAD_REQUEST, "the message's data has no string gcs_path");
    ret->gcs_path = strdup(json_string_value(path));
    return ret->gcs_path != NULL || error_oom(err);
}

static bool read_message(const json_t *message, struct envelope *ret, struct error *err)
{
    const json_t *attributes = json_object_get(message, "attributes");

    if (attributes != NULL && !json_is_object(attributes))
        return not_an_envelope(err, "attributes is not an object");
    const char *id_key = json_object_get(message, "messageId") != NULL ? "messageId" : "message_id";
    return copy_string(message, id_key, &ret->message_id, err) &&
           copy_string(attributes, "origin", &ret->origin, err) &&
           copy_string(attributes, "traceparent", &ret->traceparent, err) &&
           read_data(message, ret, err);
}

bool envelope_read(struct bytes body, struct envelope *ret, struct error *err)
{
    CLEANUP(envelope_done) struct envelope found = {0};

    if (body.len > ENVELOPE_MAX)
        return error_set(err, ERROR_TOO_LARGE, "an envelope of more than %d bytes", ENVELOPE_MAX);
    CLEANUP_JSON json_t *envelope = parse_object(body, "the body", err);
    if (envelope == NULL)
        return false;
    const json_t *message = json_object_get(envelope, "message");
    if (!json_is_object(message))
        return not_an_envelope(err, "no message object");
    if (!copy_string(envelope, "subscription", &found.source, err) ||
        !read_message(message, &found, err))
        return false;
    *ret = found;
    found = (struct envelope){0};
    return true;
}

void envelope_done(struct envelope *envelope)
{
    free(envelope->gcs_path);
    free(envelope->message_id);
    free(envelope->source);
    free(envelope->origin);
    free(envelope->traceparent);
    *envelope = (struct envelope){0};
}
