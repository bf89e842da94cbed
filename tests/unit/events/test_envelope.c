#include "../test_cases.h"
#include "events/notification/notification.h"
#include "events/outbox/envelope.h"

#include <jansson.h>

static struct outbox_row sample_row(void)
{
    struct outbox_row row = {
        .seq = 1,
        .event_id = "3f2b8a44-0000-4000-8000-123456789abc",
        .gcs_path = strdup("s3://photos/p\xc3\xa9/\"a\".jpg"),
        .content_type = strdup("image/jpeg"),
        .traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        .created_ms = 1767323045678,
    };

    memset(row.id, 'a', SHA256_HEX_LEN);
    return row;
}

static json_t *write_and_parse(const struct outbox_row *row, struct buffer *out)
{
    struct error err = {0};
    json_t *json;

    assert_true(envelope_write(row, out, &err));
    json = json_loadb((const char *)out->data, out->len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    return json;
}

static const char *string_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

TEST(test_written_as_pubsub_does)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    json_t *json = write_and_parse(&row, &out);
    const json_t *message = json_object_get(json, "message");
    const json_t *attributes = json_object_get(message, "attributes");

    assert_string_equal(string_at(json, "subscription"),
                        "projects/darkroom/subscriptions/embedded-outbox");
    assert_null(json_object_get(json, "deliveryAttempt"));
    assert_string_equal(string_at(message, "messageId"), row.event_id);
    assert_string_equal(string_at(message, "message_id"), row.event_id);
    assert_string_equal(string_at(message, "publishTime"), "2026-01-02T03:04:05.678Z");
    assert_string_equal(string_at(message, "publish_time"), "2026-01-02T03:04:05.678Z");
    assert_int_equal(json_object_size(attributes), 4);
    assert_string_equal(string_at(attributes, "origin"), "preprocess-service");
    assert_string_equal(string_at(attributes, "event_id"), row.event_id);
    assert_string_equal(string_at(attributes, "content_type"), "image/jpeg");
    assert_string_equal(string_at(attributes, "traceparent"), row.traceparent);
    json_decref(json);
}

TEST(test_optional_parts)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);

    row.traceparent[0] = '\0';
    row.attempts = 4;
    json_t *json = write_and_parse(&row, &out);
    const json_t *attributes = json_object_get(json_object_get(json, "message"), "attributes");
    assert_null(json_object_get(attributes, "traceparent"));
    assert_int_equal(json_integer_value(json_object_get(json, "deliveryAttempt")), 5);
    json_decref(json);
}

TEST(test_round_trip)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    CLEANUP(notification_done) struct notification told = {0};
    struct error err = {0};

    assert_true(envelope_write(&row, &out, &err));
    const struct request request = {.body = buffer_view(&out)};
    assert_true(notification_read(&request, &told, &err));
    assert_int_equal(told.count, 1);
    assert_string_equal(told.events[0].uri, row.gcs_path);
    assert_string_equal(told.events[0].id, row.event_id);
    assert_string_equal(told.events[0].source, "projects/darkroom/subscriptions/embedded-outbox");
    assert_string_equal(told.events[0].origin, "preprocess-service");
    assert_string_equal(told.events[0].traceparent, row.traceparent);
}

TEST(test_row_that_is_not_utf8)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    struct error err = {0};

    row.gcs_path[3] = '\xff';
    assert_fails(err, ERROR_BAD_REQUEST, envelope_write(&row, &out, &err));
}

TEST_MAIN(NULL, NULL)
