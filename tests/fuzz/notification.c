/* What POST /pubsub takes: "Name: value" lines, an empty line, the body. */
#include "events/notification/notification.h"
#include "events/outbox/envelope.h"
#include "fuzz.h"

#include <jansson.h>

/* `space` is the headers'. */
static struct request request_of(const struct fuzz_fields *fields, struct bytes body,
                                 struct http_field space[FUZZ_FIELDS_MAX])
{
    for (size_t i = 0; i < fields->count; i++)
        space[i] = (struct http_field){fields->field[i].name, fields->field[i].value};
    return (struct request){.headers = space, .header_count = fields->count, .body = body};
}

static void check_text(const char *text)
{
    FUZZ_CHECK(text != NULL && string_is_utf8(bytes_from_str(text)));
}

static void check_events(const struct notification *n)
{
    FUZZ_CHECK(n->count >= 1 && n->count <= NOTIFICATION_RECORDS_MAX);
    for (size_t i = 0; i < n->count; i++) {
        const struct announcement *event = &n->events[i];
        if (event->uri != NULL) {
            check_text(event->uri);
            FUZZ_CHECK(*event->uri != '\0');
        }
        check_text(event->source);
        check_text(event->id);
        check_text(event->origin);
        check_text(event->traceparent);
    }
}

/* Our own envelope of that object says just that. */
static void check_own(char *uri)
{
    struct outbox_row row = {.event_id = "3f2b8a44-0000-4000-8000-123456789abc",
                             .id = "aa",
                             .gcs_path = uri,
                             .content_type = (char[]){"image/jpeg"}};
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(ENVELOPE_MAX);
    CLEANUP(notification_done) struct notification n = {0};
    struct error err = {0};

    if (!envelope_write(&row, &out, &err)) {
        FUZZ_CHECK(err.code == ERROR_TOO_LARGE || !string_is_utf8(bytes_from_str(uri)));
        return;
    }
    const struct request req = {.body = buffer_view(&out)};
    if (*uri == '\0')
        return;
    FUZZ_CHECK(notification_read(&req, &n, &err));
    FUZZ_CHECK(n.count == 1 && strcmp(n.events[0].uri, uri) == 0 &&
               strcmp(n.events[0].id, row.event_id) == 0 &&
               strcmp(n.events[0].origin, "preprocess-service") == 0);
}

/* The same message pushed unwrapped and in an envelope says the same. */
static void check_wrapped(struct bytes data)
{
    const struct fuzz_fields unwrapped = {
        .field = {{(char[]){"x-goog-pubsub-message-id"}, (char[]){"7"}},
                  {(char[]){"x-goog-pubsub-subscription-name"}, (char[]){"s"}}},
        .count = 2};
    struct http_field space[FUZZ_FIELDS_MAX];
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(2 * NOTIFICATION_BYTES_MAX);
    CLEANUP(notification_done) struct notification one = {0};
    CLEANUP(notification_done) struct notification other = {0};
    struct error err = {0}, why = {0};

    FUZZ_CHECK(buffer_append_str(&body, "{\"message\":{\"messageId\":\"7\",\"data\":\"", &err) &&
               string_base64_encode(data, &body, &err) &&
               buffer_append_str(&body, "\"},\"subscription\":\"s\"}", &err));
    struct request req = {.body = buffer_view(&body)};
    bool ok = notification_read(&req, &one, &err);
    req = request_of(&unwrapped, data, space);
    bool is = notification_read(&req, &other, &why);
    json_t *json = json_loadb((const char *)data.data, data.len, JSON_REJECT_DUPLICATES, NULL);
    bool envelope = json_is_object(json_object_get(json, "message")); /* wrapped in any case */
    json_decref(json);
    if (envelope)
        return;
    FUZZ_CHECK(ok == is);
    if (ok)
        FUZZ_CHECK(one.count == 1 && other.count == 1 &&
                   strcmp(one.events[0].uri, other.events[0].uri) == 0 &&
                   strcmp(one.events[0].source, other.events[0].source) == 0 &&
                   strcmp(one.events[0].id, other.events[0].id) == 0);
}

/* As a broker's message. */
static void check_message(struct bytes body)
{
    CLEANUP(notification_done) struct notification n = {0};
    const struct announced from = {.source = "queue", .id = "7"};
    struct error err = {0};

    if (notification_read_message(body, NULL, &from, &n, &err))
        check_events(&n);
    else
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST, ERROR_TOO_LARGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes body = bytes_of(data, size);
    struct bytes head =
        size > 0 && *data == '\n' ? fuzz_until(&body, "\n") : fuzz_until(&body, "\n\n");
    CLEANUP(fuzz_fields_done) struct fuzz_fields fields;
    struct http_field space[FUZZ_FIELDS_MAX];
    CLEANUP(notification_done) struct notification n = {0};
    struct error err = {0};

    fuzz_fields_read(head, "\n", ": ", &fields);
    const struct request req = request_of(&fields, body, space);
    if (notification_read(&req, &n, &err)) {
        check_events(&n);
        for (size_t i = 0; i < n.count; i++)
            if (n.events[i].uri != NULL)
                check_own(n.events[i].uri);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST, ERROR_UNSUPPORTED_MEDIA, ERROR_TOO_LARGE);
        FUZZ_CHECK(n.events == NULL && n.count == 0);
    }
    if (body.len > 0 && body.len < 65536)
        check_wrapped(body);
    check_message(body);
    return 0;
}
