#include "../test_cases.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "events/notification/notification.h"

/* `headers`: "name: value" lines. */
static bool read_it(const char *headers, const char *body, struct notification *ret,
                    struct error *err)
{
    CLEANUP_FREE char *lines = headers != NULL ? strdup(headers) : NULL;
    struct http_field fields[16];
    struct request request = {.headers = fields, .body = bytes_from_str(body)};

    for (char *line = lines, *next; line != NULL && *line != '\0'; line = next) {
        char *colon = strstr(line, ": ");
        next = line + strcspn(line, "\n");
        if (*next != '\0')
            *next++ = '\0';
        if (colon == NULL || colon > next)
            continue;
        assert_true(request.header_count < ARRAY_SIZE(fields));
        *colon = '\0';
        fields[request.header_count++] = (struct http_field){line, colon + 2};
    }
    return notification_read(&request, ret, err);
}

/* {"gcs_path":"gs://b/k"} */
#define DATA "eyJnY3NfcGF0aCI6ImdzOi8vYi9rIn0="
#define OURS "{\"gcs_path\":\"gs://b/k\"}"
#define RESOURCE "{\"kind\":\"storage#object\",\"bucket\":\"b\",\"name\":\"a b/\\u00e9.jpg\"}"
/* {"bucket":"b","name":"n.jpg"} */
#define RESOURCE64 "eyJidWNrZXQiOiJiIiwibmFtZSI6Im4uanBnIn0="
#define GCS_ATTRIBUTES(type)                                                                       \
    "\"attributes\":{\"eventType\":\"" type "\",\"bucketId\":\"b\",\"objectId\":\"o/x.jpg\"}"
#define CE "ce-specversion: 1.0\nce-id: 7\nce-source: //src\n"
#define FINALIZED "ce-type: google.cloud.storage.object.v1.finalized\n"
#define PUBLISHED "ce-type: google.cloud.pubsub.topic.v1.messagePublished\n"
#define STRUCTURED "Content-Type: application/cloudevents+json; charset=utf-8\n"
#define EVENT(type, data)                                                                          \
    "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"//src\",\"type\":\"" type "\"," data "}"
#define S3(name, key)                                                                              \
    "{\"eventName\":\"" name                                                                       \
    "\",\"eventSource\":\"minio:s3\",\"eventTime\":\"T\",\"s3\":{\"bucket\":{\"name\":\"b\"}"      \
    ",\"object\":{\"key\":\"" key "\",\"eTag\":null,\"sequencer\":\"5\",\"size\":9}}}"
#define RECORDS(records) "{\"EventName\":\"x\",\"Key\":\"b/k\",\"Records\":[" records "]}"

static const struct {
    const char *what, *headers, *body;
    const char *uri, *source, *id; /* of the first event; uri NULL: nothing was created */
} accepted[] = {
    {"wrapped", "",
     "{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"1\"},\"subscription\":\"s\"}", "gs://b/k",
     "s", "1"},
    {"the older spelling", "", "{\"message\":{\"data\":\"" DATA "\",\"message_id\":\"2\"}}",
     "gs://b/k", "", "2"},
    {"no id", "", "{\"message\":{\"data\":\"" DATA "\"}}", "gs://b/k", "", ""},
    {"more than we know", "",
     " {\"deliveryAttempt\":5,\"more\":[{}],\"message\":{\"data\":\"" DATA
     "\",\"messageId\":\"4\",\"attributes\":{\"x\":\"y\"},\"orderingKey\":\"k\"}} ",
     "gs://b/k", "", "4"},
    {"published again", "",
     "{\"message\":{\"data\":\"" DATA
     "\",\"messageId\":\"5\",\"attributes\":{\"event_id\":\"e5\"}},\"subscription\":\"s\"}",
     "gs://b/k", "s", "e5"},
    {"Cloud Storage, attributes only", "",
     "{\"message\":{" GCS_ATTRIBUTES("OBJECT_FINALIZE") ",\"messageId\":\"6\"}}", "gs://b/o/x.jpg",
     "", "6"},
    {"Cloud Storage, with the resource", "",
     "{\"message\":{\"data\":\"" RESOURCE64 "\"," GCS_ATTRIBUTES("OBJECT_FINALIZE") "}}",
     "gs://b/n.jpg", "", ""},
    {"Cloud Storage, deleted", "",
     "{\"message\":{\"data\":\"" RESOURCE64 "\"," GCS_ATTRIBUTES("OBJECT_DELETE") "}}", NULL, "",
     ""},
    {"unwrapped", "x-goog-pubsub-message-id: 8\nX-Goog-Pubsub-Subscription-Name: s\n", OURS,
     "gs://b/k", "s", "8"},
    {"unwrapped, one header", "x-goog-pubsub-message-id: 8\n", OURS, "gs://b/k", "", "8"},
    {"unwrapped, published again", "x-goog-pubsub-message-id: 8\nevent_id: e8\n", OURS, "gs://b/k",
     "", "e8"},
    {"Cloud Storage, unwrapped",
     "x-goog-pubsub-message-id: 9\neventType: OBJECT_FINALIZE\nbucketId: b\nobjectId: broken\n",
     RESOURCE, "gs://b/a b/\xc3\xa9.jpg", "", "9"},
    {"Cloud Storage, unwrapped and empty",
     "x-goog-pubsub-message-id: 9\neventType: OBJECT_FINALIZE\nbucketId: b\nobjectId: o.jpg\n", "",
     "gs://b/o.jpg", "", "9"},
    {"Cloud Storage, metadata, unwrapped",
     "x-goog-pubsub-message-id: 9\neventType: OBJECT_METADATA_UPDATE\nbucketId: b\nobjectId: o\n",
     RESOURCE, NULL, "", "9"},
    {"binary, finalized", CE FINALIZED, RESOURCE, "gs://b/a b/\xc3\xa9.jpg", "//src", "7"},
    {"binary, JSON content type", CE FINALIZED "Content-Type: application/json\n", RESOURCE,
     "gs://b/a b/\xc3\xa9.jpg", "//src", "7"},
    {"binary, published", CE PUBLISHED,
     "{\"message\":{\"data\":\"" DATA
     "\",\"messageId\":\"1\",\"attributes\":{\"event_id\":\"e\"}},\"subscription\":\"s\"}",
     "gs://b/k", "//src", "7"},
    {"binary, published by Cloud Storage", CE PUBLISHED,
     "{\"message\":{\"data\":\"" RESOURCE64 "\"," GCS_ATTRIBUTES("OBJECT_FINALIZE") "}}",
     "gs://b/n.jpg", "//src", "7"},
    {"binary, decoded once",
     "ce-specversion: 1.0\nce-id: a%20%2520%c3%A9\nce-source: \"q \\\"x\\\" %22\"\n" FINALIZED,
     RESOURCE, "gs://b/a b/\xc3\xa9.jpg", "q \"x\" \"", "a %20\xc3\xa9"},
    {"binary, another type", CE "ce-type: com.example.thing\n", "no JSON", NULL, "//src", "7"},
    {"binary, deleted", CE "ce-type: google.cloud.storage.object.v1.deleted\n", RESOURCE, NULL,
     "//src", "7"},
    {"structured, finalized", STRUCTURED,
     EVENT("google.cloud.storage.object.v1.finalized", "\"data\":" RESOURCE),
     "gs://b/a b/\xc3\xa9.jpg", "//src", "7"},
    {"structured, capitals", "content-type: Application/CloudEvents+JSON\n",
     EVENT("google.cloud.storage.object.v1.finalized", "\"data_base64\":\"" RESOURCE64 "\""),
     "gs://b/n.jpg", "//src", "7"},
    {"structured, published", STRUCTURED,
     EVENT("google.cloud.pubsub.topic.v1.messagePublished",
           "\"data\":{\"message\":{\"data\":\"" DATA "\"}}"),
     "gs://b/k", "//src", "7"},
    {"structured, another type", STRUCTURED, EVENT("com.example.thing", "\"data\":[1]"), NULL,
     "//src", "7"},
    {"structured before binary", STRUCTURED CE FINALIZED, EVENT("com.example.thing", "\"x\":1"),
     NULL, "//src", "7"},
    {"binary before wrapped", CE "ce-type: com.example.thing\n",
     "{\"message\":{\"data\":\"" DATA "\"}}", NULL, "//src", "7"},
    {"wrapped before unwrapped", "x-goog-pubsub-message-id: 8\n",
     "{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"1\"}}", "gs://b/k", "", "1"},
    {"MinIO", "", RECORDS(S3("s3:ObjectCreated:Put", "a.jpg")), "s3://b/a.jpg", "minio:s3",
     "b/a.jpg T 5"},
    {"AWS", "", RECORDS(S3("ObjectCreated:CompleteMultipartUpload", "album%2Fa+b%2B%25%C3%A9.jpg")),
     "s3://b/album/a b+%\xc3\xa9.jpg", "minio:s3", "b/album%2Fa+b%2B%25%C3%A9.jpg T 5"},
    {"a server that does not encode keys", "", RECORDS(S3("s3:ObjectCreated:Put", "a b+%41.jpg")),
     "s3://b/a b+%41.jpg", "minio:s3", "b/a b+%41.jpg T 5"},
    {"the same, told by a letter", "", RECORDS(S3("s3:ObjectCreated:Put", "Ã©+%.jpg")),
     "s3://b/Ã©+%.jpg", "minio:s3", "b/Ã©+%.jpg T 5"},
    {"removed", "", RECORDS(S3("s3:ObjectRemoved:Delete", "a.jpg")), NULL, "minio:s3", ""},
    {"read", "", RECORDS(S3("s3:ObjectAccessed:Get", "a.jpg")), NULL, "minio:s3", ""},
    {"AWS, switched on", "",
     "{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\",\"Bucket\":\"b\"}", NULL, "", ""},
};

TEST(test_accepted)
{
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        CLEANUP(notification_done) struct notification told = {0};
        struct error err = {0};

        if (!read_it(accepted[i].headers, accepted[i].body, &told, &err))
            fail_msg("%s: %s", accepted[i].what, err.message);
        assert_int_equal(told.count, 1);
        const struct announcement *event = &told.events[0];
        if (accepted[i].uri == NULL)
            assert_null(event->uri);
        else if (event->uri == NULL || strcmp(event->uri, accepted[i].uri) != 0)
            fail_msg("%s: %s", accepted[i].what, event->uri);
        if (strcmp(event->source, accepted[i].source) != 0 ||
            strcmp(event->id, accepted[i].id) != 0)
            fail_msg("%s: %s, %s", accepted[i].what, event->source, event->id);
    }
}

/* Messages that are well-formed and name no object: never to be sent again. */
TEST(test_attributes_only)
{
    static const struct {
        const char *headers, *body;
    } messages[] = {
        {"", "{\"message\":{\"attributes\":{\"a\":\"b\"},\"messageId\":\"8\"}}"},
        {"", "{\"message\":{\"data\":\"\",\"attributes\":{\"a\":\"b\"},\"messageId\":\"8\"}}"},
        {"x-goog-pubsub-message-id: 8\na: b\n", ""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        CLEANUP(notification_done) struct notification told = {0};
        struct error err = {0};
        assert_true(read_it(messages[i].headers, messages[i].body, &told, &err));
        assert_int_equal(told.count, 1);
        assert_null(told.events[0].uri);
        assert_string_equal(told.events[0].id, "8");
        assert_non_null(told.events[0].flaw);
    }
}

static const struct {
    const char *headers, *body;
} refused[] = {
    {"", ""},
    {"", "x"},
    {"", "[]"},
    {"", "null"},
    {"", "{}"},
    {"", OURS}, /* unwrapped, but nothing says so */
    {"", "{\"message\":null}"},
    {"", "{\"message\":\"" DATA "\"}"},
    {"", "{\"message\":{}}"},
    {"", "{\"message\":{\"data\":null}}"},
    {"", "{\"message\":{\"data\":7}}"},
    {"", "{\"message\":{\"data\":\"\"}}"},
    {"", "{\"message\":{\"data\":\"%%%%\"}}"},
    {"", "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6ImdzOi8vYi9rIn0\"}}"},  /* no padding */
    {"", "{\"message\":{\"data\":\"W10=\"}}"},                             /* [] */
    {"", "{\"message\":{\"data\":\"e30=\"}}"},                             /* {} */
    {"", "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6MX0=\"}}"},             /* a number */
    {"", "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6IiJ9\"}}"},             /* "" */
    {"", "{\"message\":{\"data\":\"eyJnY3NfcGF0aCI6ImFcdTAwMDBiIn0=\"}}"}, /* NUL in it */
    {"", "{\"message\":{\"data\":\"" RESOURCE64 "\"}}"}, /* Cloud Storage's, but no eventType */
    {"", "{\"message\":{\"data\":\"" DATA "\",\"messageId\":1}}"},
    {"", "{\"message\":{\"data\":\"" DATA "\",\"messageId\":\"a\\u0000b\"}}"},
    {"", "{\"message\":{\"data\":\"" DATA "\",\"attributes\":[]}}"},
    {"", "{\"message\":{\"data\":\"" DATA "\",\"attributes\":{\"origin\":1}}}"},
    {"", "{\"message\":{\"attributes\":{\"eventType\":\"OBJECT_FINALIZE\"}}}"},
    {"", "{\"message\":{\"data\":\"eA==\"," GCS_ATTRIBUTES("OBJECT_FINALIZE") "}}"},
    {"", "{\"message\":{\"data\":\"" DATA "\"},\"subscription\":{}}"},
    {"", "{\"message\":{\"data\":\"" DATA "\"}} trailing"},
    {"", "{\"message\":{\"data\":\"" DATA "\"}"},
    {"", "{\"message\":{},\"message\":{\"data\":\"" DATA "\"}}"},
    {"", "{\"message\":{\"messageId\":\"8\",\"attributes\":{}}}"},
    {"x-goog-pubsub-message-id: 8\n", "x"},
    {"x-goog-pubsub-message-id: 8\n", "{}"},
    {"x-goog-pubsub-message-id: \xff\n", OURS},
    {"x-goog-pubsub-publish-time: 2026-01-02T03:04:05Z\n", OURS},
    {"ce-id: 7\nce-source: //src\n" FINALIZED, RESOURCE},
    {"ce-specversion: 0.3\nce-id: 7\nce-source: //src\n" FINALIZED, RESOURCE},
    {"ce-specversion: 1.0\nce-source: //src\n" FINALIZED, RESOURCE},
    {"ce-specversion: 1.0\nce-id: 7\n" FINALIZED, RESOURCE},
    {"ce-specversion: 1.0\nce-id: \nce-source: //src\n" FINALIZED, RESOURCE},
    {"ce-specversion: 1.0\nce-id: %\nce-source: //src\n" FINALIZED, RESOURCE},
    {"ce-specversion: 1.0\nce-id: %00\nce-source: //src\n" FINALIZED, RESOURCE},
    {"ce-specversion: 1.0\nce-id: %ff\nce-source: //src\n" FINALIZED, RESOURCE},
    {CE, RESOURCE},
    {CE FINALIZED, ""},
    {CE FINALIZED, "[]"},
    {CE FINALIZED, "{\"bucket\":\"b\"}"},
    {CE FINALIZED, "{\"bucket\":\"b\",\"name\":1}"},
    {CE FINALIZED, "{\"bucket\":\"\",\"name\":\"n\"}"},
    {CE PUBLISHED, RESOURCE},
    {CE PUBLISHED, ""},
    {STRUCTURED, ""},
    {STRUCTURED, "[]"},
    {STRUCTURED, "{\"message\":{\"data\":\"" DATA "\"}}"},
    {STRUCTURED, "{\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"s\"}"},
    {STRUCTURED, "{\"specversion\":\"1.0\",\"id\":7,\"source\":\"s\",\"type\":\"t\"}"},
    {STRUCTURED, "{\"specversion\":1.0,\"id\":\"7\",\"source\":\"s\",\"type\":\"t\"}"},
    {STRUCTURED, "{\"specversion\":\"0.3\",\"id\":\"7\",\"source\":\"s\",\"type\":\"t\"}"},
    {STRUCTURED, EVENT("google.cloud.storage.object.v1.finalized", "\"data\":\"text\"")},
    {STRUCTURED, EVENT("google.cloud.storage.object.v1.finalized", "\"data_base64\":\"%\"")},
    {STRUCTURED,
     EVENT("google.cloud.storage.object.v1.finalized", "\"data\":{},\"data_base64\":\"e30=\"")},
    {"", "{\"Records\":{}}"},
    {"", RECORDS("")},
    {"", RECORDS("1")},
    {"", RECORDS("{}")},
    {"", RECORDS("{\"eventName\":1}")},
    {"", RECORDS("{\"eventName\":\"ObjectCreated:Put\"}")},
    {"", RECORDS(S3("ObjectCreated:Put", ""))},
    {"", RECORDS(S3("ObjectCreated:Put", "%zz"))},
    {"", RECORDS(S3("ObjectCreated:Put", "a%00b"))},
    {"", RECORDS(S3("ObjectCreated:Put", "%ff"))},
    {"", RECORDS(S3("ObjectCreated:Put", "a.jpg") ",{}")},
    {"", "{\"Event\":\"s3:Other\"}"},
};

TEST(test_refused)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct notification told = {0};
        struct error err = {0};

        if (read_it(refused[i].headers, refused[i].body, &told, &err))
            fail_msg("accepted: %s%s", refused[i].headers, refused[i].body);
        if (err.code != ERROR_BAD_REQUEST || err.message[0] == '\0')
            fail_msg("%s%s: %s", refused[i].headers, refused[i].body, err.message);
        assert_null(told.events);
    }
}

TEST(test_media_types_of_cloudevents)
{
    static const char *const types[] = {
        "application/cloudevents-batch+json",
        "application/cloudevents+protobuf",
        "application/cloudevents",
        "APPLICATION/CLOUDEVENTS-BATCH+JSON; charset=utf-8",
        "application/cloudevents+jsonl",
    };

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        CLEANUP_FREE char *header = xasprintf("Content-Type: %s\n", types[i]);
        struct notification told = {0};
        struct error err = {0};

        assert_fails(err, ERROR_UNSUPPORTED_MEDIA, read_it(header, "[]", &told, &err));
    }
}

TEST(test_attributes)
{
    static const char *const headers[] = {
        "", "x-goog-pubsub-message-id: 1\norigin: classify-service\ntraceparent: 00-a\n"};
    static const char *const bodies[] = {"{\"message\":{\"data\":\"" DATA
                                         "\",\"attributes\":{\"origin\":\"classify-service\","
                                         "\"traceparent\":\"00-a\"}}}",
                                         OURS};

    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        CLEANUP(notification_done) struct notification told = {0};
        struct error err = {0};

        assert_true(read_it(headers[i], bodies[i], &told, &err));
        assert_string_equal(told.events[0].origin, "classify-service");
        assert_string_equal(told.events[0].traceparent, "00-a");
    }
}

/* A notification of `count` records. */
static void write_records(size_t count, struct buffer *out)
{
    struct error err;

    assert_true(buffer_append_str(out, "{\"Records\":[", &err));
    for (size_t i = 0; i < count; i++)
        assert_true(buffer_printf(out, &err, "%s" S3("s3:%s", "%zu.jpg"), i == 0 ? "" : ",",
                                  i % 3 == 2 ? "ObjectRemoved:Delete" : "ObjectCreated:Put", i));
    assert_true(buffer_append_str(out, "]}", &err));
}

TEST(test_records)
{
    CLEANUP(buffer_done) struct buffer hundred = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    CLEANUP(buffer_done) struct buffer more = BUFFER_MAX(NOTIFICATION_BYTES_MAX);
    CLEANUP(notification_done) struct notification told = {0};
    struct notification none = {0};
    struct error err = {0};
    char uri[64];

    write_records(100, &hundred);
    assert_true(read_it("", buffer_cstr(&hundred, &err), &told, &err));
    assert_int_equal(told.count, 100);
    for (size_t i = 0; i < 100; i++) {
        snprintf(uri, sizeof(uri), "s3://b/%zu.jpg", i);
        if (i % 3 == 2)
            assert_null(told.events[i].uri);
        else
            assert_string_equal(told.events[i].uri, uri);
    }
    write_records(101, &more);
    assert_fails(err, ERROR_BAD_REQUEST, read_it("", buffer_cstr(&more, &err), &none, &err));
}

TEST(test_bounds)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(NOTIFICATION_BYTES_MAX * 2);
    struct notification told = {0};
    struct error err = {0};

    for (int i = 0; i < 20000; i++) { /* more than the parser goes down, then more than it may */
        assert_true(buffer_append_str(&body, "[", &err));
        if (i % 4000 != 0 && i != 19999)
            continue;
        assert_false(read_it("", buffer_cstr(&body, &err), &told, &err));
        assert_int_equal(err.code, i <= 8000 ? ERROR_BAD_REQUEST : ERROR_TOO_LARGE);
    }
    while (body.len <= NOTIFICATION_BYTES_MAX)
        assert_true(buffer_append_str(&body, " ", &err));
    assert_fails(err, ERROR_TOO_LARGE, read_it("", buffer_cstr(&body, &err), &told, &err));
}

/* ---- messages of a broker */

TEST(test_messages)
{
    static const struct {
        const char *body, *event_id, *uri, *id; /* uri NULL: refused */
    } messages[] = {
        {OURS, NULL, "gs://b/k", "7"},
        {OURS, "e", "gs://b/k", "e"},
        {RECORDS(S3("s3:ObjectCreated:Put", "k")), NULL, "s3://b/k", NULL},
        {"{}", NULL, NULL, NULL},
        {"[]", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
        {"{\"gcs_path\":1}", NULL, NULL, NULL},
    };
    const struct announced from = {.source = "queue", .id = "7"};

    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        CLEANUP(notification_done) struct notification told = {0};
        struct error err = {0};
        json_t *headers = json_object();
        if (messages[i].event_id != NULL)
            json_object_set_new(headers, "event_id", json_string(messages[i].event_id));
        bool ok = notification_read_message(bytes_from_str(messages[i].body), headers, &from, &told,
                                            &err);
        json_decref(headers);
        assert_int_equal(ok, messages[i].uri != NULL);
        assert_int_equal(err.code, ok ? ERROR_NONE : ERROR_BAD_REQUEST);
        if (ok)
            assert_string_equal(told.events[0].uri, messages[i].uri);
        if (messages[i].id != NULL) {
            assert_string_equal(told.events[0].id, messages[i].id);
            assert_string_equal(told.events[0].source, "queue");
        }
    }
}

TEST_MAIN(NULL, NULL)
