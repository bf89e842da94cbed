#include "events/outbox/envelope.h"

#include "base/clock.h"

#include <jansson.h>
#include <string.h>

static const char subscription[] = "projects/darkroom/subscriptions/embedded-outbox";

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define CLEANUP_JSON CLEANUP(cleanup_json)

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
