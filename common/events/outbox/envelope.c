#include "events/outbox/envelope.h"

#include "base/clock.h"
#include "base/json.h"

bool envelope_write(const struct outbox_row *row, struct buffer *out, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(ENVELOPE_MAX);
    CLEANUP(buffer_done) struct buffer base64 = BUFFER_MAX(ENVELOPE_MAX);
    const char *trace = row->traceparent[0] != '\0' ? row->traceparent : NULL;
    char time[CLOCK_RFC3339_LEN];

    if (!event_data(row->gcs_path, row->id, &data, err) ||
        !string_base64_encode(buffer_view(&data), &base64, err))
        return false;
    clock_rfc3339(row->created_ms, time);
    /* NULL: left out by "s*" and "o*"; what is not UTF-8, by any other letter, is a NULL again */
    json_t *attributes =
        json_pack("{s:s, s:s, s:s, s:s*}", "origin", EVENT_ORIGIN, "event_id", row->event_id,
                  "content_type", row->content_type, "traceparent", trace);
    json_t *message =
        json_pack("{s:s%, s:o, s:s, s:s, s:s, s:s}", "data", (const char *)base64.data, base64.len,
                  "attributes", attributes, "messageId", row->event_id, "message_id", row->event_id,
                  "publishTime", time, "publish_time", time);
    json_t *attempt = row->attempts > 0 ? json_integer(row->attempts + 1) : NULL;
    return json_append(json_pack("{s:o, s:s, s:o*}", "message", message, "subscription",
                                 "projects/darkroom/subscriptions/embedded-outbox",
                                 "deliveryAttempt", attempt),
                       out, err);
}
