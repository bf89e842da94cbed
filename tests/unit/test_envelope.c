#include "events/envelope.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

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

static void test_written_as_pubsub_does(void **state)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    json_t *json = write_and_parse(&row, &out);
    const json_t *message = json_object_get(json, "message");
    const json_t *attributes = json_object_get(message, "attributes");

    (void)state;
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

static void test_optional_parts(void **state)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);

    (void)state;
    row.traceparent[0] = '\0';
    row.attempts = 4;
    json_t *json = write_and_parse(&row, &out);
    const json_t *attributes = json_object_get(json_object_get(json, "message"), "attributes");
    assert_null(json_object_get(attributes, "traceparent"));
    assert_int_equal(json_integer_value(json_object_get(json, "deliveryAttempt")), 5);
    json_decref(json);
}

static void test_round_trip(void **state)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    CLEANUP(envelope_done) struct envelope envelope = {0};
    struct error err = {0};

    (void)state;
    assert_true(envelope_write(&row, &out, &err));
    assert_true(envelope_read(buffer_view(&out), &envelope, &err));
    assert_string_equal(envelope.gcs_path, row.gcs_path);
    assert_string_equal(envelope.message_id, row.event_id);
    assert_string_equal(envelope.source, "projects/darkroom/subscriptions/embedded-outbox");
    assert_string_equal(envelope.origin, "preprocess-service");
    assert_string_equal(envelope.traceparent, row.traceparent);
}

static void test_row_that_is_not_utf8(void **state)
{
    CLEANUP(outbox_row_done) struct outbox_row row = sample_row();
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    struct error err = {0};

    (void)state;
    row.gcs_path[3] = '\xff';
    assert_false(envelope_write(&row, &out, &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
}

/* {"gcs_path":"gs://b/k"} */
#define DATA "eyJnY3NfcGF0aCI6ImdzOi8vYi9rIn0="

static void test_accepted(void **state)
{
    static const struct {
        const char *body, *id;
    } cases[] = {
        {"{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"1\"},\"subscription\":\"s\"}", "1"},
        {"{\"message\":{\"data\":\"" DATA "\",\"message_id\":\"2\"}}", "2"},
        {"{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"3\",\"message_id\":\"3\"}}", "3"},
        {"{\"message\":{\"data\":\"" DATA "\"}}", ""},
        {" {\"deliveryAttempt\":5,\"more\":[{}],\"message\":{\"data\":\"" DATA
         "\",\"messageId\":\"4\",\"attributes\":{\"x\":\"y\"},\"orderingKey\":\"k\"}} ",
         "4"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(envelope_done) struct envelope envelope = {0};
        struct error err = {0};

        if (!envelope_read(bytes_from_str(cases[i].body), &envelope, &err))
            fail_msg("case %zu: %s", i, err.message);
        assert_string_equal(envelope.gcs_path, "gs://b/k");
        assert_string_equal(envelope.message_id, cases[i].id);
        assert_string_equal(envelope.origin, "");
        assert_string_equal(envelope.traceparent, "");
    }
}

static void test_malformed(void **state)
{
    static const char *const bodies[] = {
        "",
        "x",
        "[]",
        "null",
        "{}",
        "{\"message\":null}",
        "{\"message\":\"" DATA "\"}",
        "{\"message\":{}}",
        "{\"message\":{\"data\":null}}",
        "{\"message\":{\"data\":7}}",
        "{\"message\":{\"data\":\"\"}}",
        "{\"message\":{\"data\":\"%%%%\"}}",
        "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6ImdzOi8vYi9rIn0\"}}",  /* no padding */
        "{\"message\":{\"data\":\"W10=\"}}",                             /* [] */
        "{\"message\":{\"data\":\"e30=\"}}",                             /* {} */
        "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6MX0=\"}}",             /* {"gcs_path":1} */
        "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6IiJ9\"}}",             /* {"gcs_path":""} */
        "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6ImFcdTAwMDBiIn0=\"}}", /* NUL in it */
        "{\"message\":{\"data\":\"" DATA "\",\"messageId\":1}}",
        "{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"a\\u0000b\"}}",
        "{\"message\":{\"data\":\"" DATA "\",\"attributes\":[]}}",
        "{\"message\":{\"data\":\"" DATA "\",\"attributes\":{\"origin\":1}}}",
        "{\"message\":{\"data\":\"" DATA "\"},\"subscription\":{}}",
        "{\"message\":{\"data\":\"" DATA "\"}} trailing",
        "{\"message\":{\"data\":\"" DATA "\"}",
        "{\"message\":{},\"message\":{\"data\":\"" DATA "\"}}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        struct envelope envelope = {0};
        struct error err = {0};

        if (envelope_read(bytes_from_str(bodies[i]), &envelope, &err))
            fail_msg("accepted: %s", bodies[i]);
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
        assert_true(err.message[0] != '\0');
        assert_null(envelope.gcs_path);
    }
}

static void test_bounds(void **state)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(ENVELOPE_MAX * 2);
    struct envelope envelope = {0};
    struct error err = {0};

    (void)state;
    for (int i = 0; i < 20000; i++)
        assert_true(buffer_append_str(&body, "[", &err));
    assert_false(envelope_read(buffer_view(&body), &envelope, &err));
    assert_int_equal(err.code, ERROR_BAD_REQUEST);
    while (body.len <= ENVELOPE_MAX)
        assert_true(buffer_append_str(&body, " ", &err));
    assert_false(envelope_read(buffer_view(&body), &envelope, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_as_pubsub_does),
        cmocka_unit_test(test_optional_parts),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_row_that_is_not_utf8),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
