#include "../test_cases.h"
#include "app/settings.h"

#include "base/strings.h"
#include "base/xmalloc.h"

/* An empty environment, but for what tells cmocka where its report goes. */
static int clear(void **state)
{
    static const char *const names[] = {"CMOCKA_MESSAGE_OUTPUT", "CMOCKA_XML_FILE"};
    char *values[ARRAY_SIZE(names)];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        values[i] = getenv(names[i]) != NULL ? strdup(getenv(names[i])) : NULL;
    int status = clearenv();
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (values[i] != NULL)
            status |= setenv(names[i], values[i], 1);
        free(values[i]);
    }
    return status;
}

/* Load with what the environment holds: the mistakes' text, "" for none. The caller frees. */
static char *load(enum service_kind service, struct settings *settings)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(16384);
    bool ok = settings_load(service, settings, &mistakes);

    assert_int_equal(ok, mistakes.len == 0);
    return xasprintf("%.*s", (int)mistakes.len, (const char *)mistakes.data);
}

static void assert_told(enum service_kind service, const char *expected)
{
    CLEANUP(settings_done) struct settings settings;
    CLEANUP_FREE char *text = load(service, &settings);

    assert_non_null(text);
    if (expected == NULL)
        assert_string_equal(text, "");
    else if (strstr(text, expected) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", expected, text);
}

static void set_all(const char *const pairs[][2], size_t count)
{
    for (size_t i = 0; i < count; i++)
        setenv(pairs[i][0], pairs[i][1], 1);
}

static const char *const keys[][2] = {{"AWS_ACCESS_KEY_ID", "id"},
                                      {"AWS_SECRET_ACCESS_KEY", "secret"}};

TEST_WITH(test_defaults, clear, NULL)
{
    for (enum service_kind service = SERVICE_PREPROCESS; service <= SERVICE_CLASSIFY; service++) {
        CLEANUP(settings_done) struct settings s;
        CLEANUP_FREE char *text = load(service, &s);

        assert_string_equal(text, "");
        assert_int_equal(s.port, service == SERVICE_PREPROCESS ? 8000 : 8001);
        assert_string_equal(s.host, "0.0.0.0");
        assert_string_equal(s.storage_url, "file:data/objects");
        assert_int_equal(s.max_body_bytes, 33554432);
        assert_int_equal(s.max_pixels, 110000000);
        assert_int_equal(s.max_decode_bytes, 536870912);
        assert_int_equal(s.decode_budget_bytes, 536870912);
        assert_int_equal(s.max_connections, 1000);
        assert_int_equal(s.max_inflight, 256);
        assert_int_equal(s.body_budget_bytes, 134217728);
        assert_true(s.workers >= 1);
        assert_int_equal(s.queue_max, 64);
        assert_int_equal(s.request_timeout_ms, 30000);
        assert_int_equal(s.shutdown_grace_ms, 8000);
        assert_string_equal(s.push_token, "");
        assert_int_equal(s.images, service == SERVICE_PREPROCESS);
        assert_int_equal(s.model != NULL, service == SERVICE_CLASSIFY);
        assert_int_equal(s.events_url != NULL, service == SERVICE_PREPROCESS);
    }
}

TEST_WITH(test_storage, clear, NULL)
{
    static const char *const good[] = {"file:data", "file:///data", "s3://bucket", "s3://bucket/p",
                                       "gs://bucket"};
    static const char *const bad[] = {
        "data",          "http://bucket", "s3:bucket",   "FILE:x",           "gs:/bucket",
        "file://host/x", "gs://b",        "s3://Bucket", "gs://bucket/../x", "s3://bucket/\n"};

    set_all(keys, ARRAY_SIZE(keys));
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        setenv("STORAGE_URL", good[i], 1);
        assert_told(SERVICE_CLASSIFY, NULL);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        setenv("STORAGE_URL", bad[i], 1);
        assert_told(SERVICE_CLASSIFY, "STORAGE_URL: ");
    }
}

TEST_WITH(test_bucket, clear, NULL)
{
    static const struct {
        const char *url, *bucket;
        bool good;
    } cases[] = {
        {"s3://bbb", "bbb", true},      {"gs://bbb/prefix", "bbb", true},
        {"s3://bbbb", "bbb", false},    {"s3://bbb", "bbbb", false},
        {"file:bbb", "bbb", false},     {"file:///bbb", "bbb", false},
        {"gs://xxx/bbb", "bbb", false},
    };

    set_all(keys, ARRAY_SIZE(keys));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setenv("STORAGE_URL", cases[i].url, 1);
        setenv("BUCKET", cases[i].bucket, 1);
        assert_told(SERVICE_BOTH, cases[i].good ? NULL : "BUCKET and STORAGE_URL");
    }
    unsetenv("STORAGE_URL");
    CLEANUP(settings_done) struct settings s;
    CLEANUP_FREE char *text = load(SERVICE_PREPROCESS, &s);
    assert_string_equal(text, "");
    assert_string_equal(s.storage_url, "gs://bbb");
    setenv("BUCKET", "b", 1);
    assert_told(SERVICE_BOTH, "BUCKET: not a bucket's name");
}

TEST_WITH(test_urls, clear, NULL)
{
    static const char *const good[] = {"push+http://h/pubsub", "push+https://h:1/x?y=z",
                                       "none:", "push+http://[::1]:80/",
                                       "pubsub://projects/p/topics/img"};
    static const char *const bad[] = {"pubsub://img",   "pubsub://projects/p/topics/1x",
                                      "http://h/",      "push+http://",
                                      "push+http:///x", "push+http://?",
                                      "push+ftp://h",   "none",
                                      "push+http://a b"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        setenv("EVENTS_URL", good[i], 1);
        assert_told(SERVICE_PREPROCESS, NULL);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        setenv("EVENTS_URL", bad[i], 1);
        assert_told(SERVICE_PREPROCESS, "EVENTS_URL: ");
        assert_told(SERVICE_CLASSIFY, NULL); /* not its business */
    }
    unsetenv("EVENTS_URL");
    setenv("RESULTS_BASE_URL", "http://h/a//", 1);
    CLEANUP(settings_done) struct settings s;
    CLEANUP_FREE char *text = load(SERVICE_PREPROCESS, &s);
    assert_string_equal(text, "");
    assert_string_equal(s.results_base_url, "http://h/a");
    setenv("RESULTS_BASE_URL", "h/a", 1);
    assert_told(SERVICE_PREPROCESS, "RESULTS_BASE_URL: ");
}

TEST_WITH(test_cloud_run, clear, NULL)
{
    setenv("K_SERVICE", "x", 1);
    assert_told(SERVICE_PREPROCESS, "STORAGE_URL: ");
    assert_told(SERVICE_PREPROCESS, "EVENTS_URL: ");
    assert_told(SERVICE_CLASSIFY, "STORAGE_URL: ");
    setenv("STORAGE_URL", "gs://bucket", 1);
    assert_told(SERVICE_CLASSIFY, NULL);
    assert_told(SERVICE_PREPROCESS, "EVENTS_URL: ");
    setenv("EVENTS_URL", "none:", 1);
    assert_told(SERVICE_PREPROCESS, NULL);
    unsetenv("STORAGE_URL");
    setenv("ALLOW_EPHEMERAL", "1", 1);
    assert_told(SERVICE_PREPROCESS, NULL);
}

/* A mistake in a row does not hide one in the rules between rows. */
TEST_WITH(test_together, clear, NULL)
{
    CLEANUP(settings_done) struct settings s;

    setenv("PORT", "x", 1);
    setenv("STORAGE_URL", "s3://\xff", 1);
    setenv("EVENTS_URL", "x", 1);
    setenv("BUCKET", "a\nb", 1);
    setenv("WORKERS", "-1", 1);
    setenv("RESULTS_BASE_URL", "a\nb", 1);
    CLEANUP_FREE char *text = load(SERVICE_PREPROCESS, &s);
    assert_non_null(strstr(text, "PORT: "));
    assert_non_null(strstr(text, "STORAGE_URL: "));
    assert_non_null(strstr(text, "EVENTS_URL: "));
    assert_non_null(strstr(text, "BUCKET: "));
    assert_non_null(strstr(text, "WORKERS: "));
    assert_non_null(strstr(text, "RESULTS_BASE_URL: "));
}

TEST_WITH(test_retention, clear, NULL)
{
    setenv("RETENTION_DAYS", "30", 1);
    assert_told(SERVICE_PREPROCESS, NULL);
    assert_told(SERVICE_CLASSIFY, NULL);
    setenv("STORAGE_URL", "gs://bucket", 1);
    assert_told(SERVICE_PREPROCESS, "RETENTION_DAYS: ");
    setenv("RETENTION_DAYS", "0", 1);
    assert_told(SERVICE_PREPROCESS, NULL);
}

TEST_WITH(test_allowed_buckets, clear, NULL)
{
    setenv("ALLOWED_BUCKETS", "a,b/c", 1);
    assert_told(SERVICE_CLASSIFY, "ALLOWED_BUCKETS: ");
    assert_told(SERVICE_PREPROCESS, NULL);
    setenv("STORAGE_URL", "gs://aaa", 1);
    assert_told(SERVICE_CLASSIFY, "ALLOWED_BUCKETS: gs://a: not a bucket's name");
    setenv("ALLOWED_BUCKETS", "aaa, bbb/c/../d,", 1);
    assert_told(SERVICE_CLASSIFY, "ALLOWED_BUCKETS: gs://bbb/c/../d: no prefix of keys");
    setenv("ALLOWED_BUCKETS", "aaa , bbb/c", 1);
    assert_told(SERVICE_CLASSIFY, NULL);
}

TEST_WITH(test_s3, clear, NULL)
{
    setenv("STORAGE_URL", "s3://bucket", 1);
    set_all(keys, ARRAY_SIZE(keys));
    setenv("S3_ENDPOINT", "http://host:9000/", 1);
    assert_told(SERVICE_BOTH, NULL);
    static const char *const bad[] = {
        "host", "ftp://host", "http://host/path", "http://u:p@host", "http://host?x", "http://"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        setenv("S3_ENDPOINT", bad[i], 1);
        assert_told(SERVICE_BOTH, "S3_ENDPOINT: ");
    }
}

/* What the store finds is in the one list, all of it, and without a secret. */
TEST_WITH(test_store_mistakes, clear, NULL)
{
    char long_key[80] = {0};

    setenv("STORAGE_URL", "s3://bucket", 1);
    assert_told(SERVICE_BOTH, "STORAGE_URL: s3:// needs both");
    set_all(keys, ARRAY_SIZE(keys));
    setenv("AWS_ACCESS_KEY_ID", "a key", 1);
    assert_told(SERVICE_BOTH, "STORAGE_URL: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: ");
    memset(long_key, 'k', sizeof(long_key) - 1);
    setenv("AWS_ACCESS_KEY_ID", long_key, 1);
    assert_told(SERVICE_BOTH, NULL);
    setenv("S3_SIGNATURE", "v2", 1);
    setenv("S3_ENDPOINT", "https://host", 1);
    setenv("AWS_SESSION_TOKEN", "token", 1);
    setenv("STORAGE_URL", "s3://bucket/./x", 1);
    setenv("PORT", "x", 1);
    CLEANUP(settings_done) struct settings s;
    CLEANUP_FREE char *text = load(SERVICE_PREPROCESS, &s);
    static const char *const all[] = {
        "PORT: ", "STORAGE_URL: no prefix of keys", "STORAGE_URL: S3_SIGNATURE=v2 needs an http://",
        "STORAGE_URL: S3_SIGNATURE=v2 has no session tokens",
        "STORAGE_URL: S3_SIGNATURE=v2 takes an access key of at most"};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        assert_non_null(strstr(text, all[i]));
    assert_null(strstr(text, long_key));
    /* a row with a mistake says nothing of the store */
    setenv("AWS_ACCESS_KEY_ID", "a\nb", 1);
    CLEANUP(settings_done) struct settings malformed;
    CLEANUP_FREE char *other = load(SERVICE_PREPROCESS, &malformed);
    assert_non_null(strstr(other, "AWS_ACCESS_KEY_ID: "));
    assert_null(strstr(other, "needs both"));
}

TEST_WITH(test_gcs, clear, NULL)
{
    setenv("BUCKET", "bucket", 1);
    setenv("STORAGE_EMULATOR_HOST", "localhost:4443", 1);
    CLEANUP(settings_done) struct settings s;
    CLEANUP_FREE char *text = load(SERVICE_PREPROCESS, &s);
    assert_string_equal(text, "");
    assert_string_equal(s.storage_emulator_host, "http://localhost:4443");
    setenv("GCS_ENDPOINT", "https://storage.example", 1);
    assert_told(SERVICE_BOTH, "GCS_ENDPOINT and STORAGE_EMULATOR_HOST");
    unsetenv("STORAGE_EMULATOR_HOST");
    assert_told(SERVICE_BOTH, NULL);
}

static void assert_events_url(const char *expected)
{
    CLEANUP(settings_done) struct settings s;
    CLEANUP_FREE char *text = load(SERVICE_PREPROCESS, &s);

    assert_string_equal(text, "");
    assert_string_equal(s.events_url, expected);
}

/* PREP_TOPIC is another name of EVENTS_URL=pubsub://…: both may be set, but not to two things. */
TEST_WITH(test_prep_topic, clear, NULL)
{
    static const struct {
        const char *events, *topic, *project;
        bool good;
    } cases[] = {
        {"pubsub://projects/p/topics/img", "img", "", true},
        {"pubsub://projects/p/topics/img", "img", "p", true},
        {"pubsub://projects/p/topics/img", "img", "p2", false},
        {"pubsub://projects/p2/topics/img", "img", "p", false},
        {"pubsub://projects/p/topics/img", "im", "", false},
        {"pubsub://projects/p/topics/img", "img2", "", false},
        {"pubsub://projects/p/topics/img", "projects/p/topics/img", "other", true},
        {"pubsub://projects/p/topics/img", "projects/q/topics/img", "", false},
        {"push+http://h/pubsub", "img", "p", false},
        {"none:", "img", "p", false},
    };

    setenv("PREP_TOPIC", "img-preprocessed", 1);
    assert_events_url("pubsub://img-preprocessed");
    assert_told(SERVICE_CLASSIFY, NULL);
    setenv("PREP_TOPIC", "projects/example.com:p/topics/img", 1);
    assert_events_url("pubsub://projects/example.com:p/topics/img");
    setenv("EVENTS_URL", "", 1);
    assert_events_url("pubsub://projects/example.com:p/topics/img");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setenv("EVENTS_URL", cases[i].events, 1);
        setenv("PREP_TOPIC", cases[i].topic, 1);
        setenv("GOOGLE_CLOUD_PROJECT", cases[i].project, 1);
        if (cases[i].good)
            assert_events_url(cases[i].events);
        else
            assert_told(SERVICE_PREPROCESS, strlen(cases[i].topic) < 3
                                                ? "PREP_TOPIC: "
                                                : "EVENTS_URL and PREP_TOPIC name different");
    }
}

TEST_WITH(test_pubsub, clear, NULL)
{
    setenv("PUBSUB_EMULATOR_HOST", "localhost:8085", 1);
    for (enum service_kind service = SERVICE_PREPROCESS; service <= SERVICE_CLASSIFY; service++) {
        CLEANUP(settings_done) struct settings s;
        CLEANUP_FREE char *text = load(service, &s);
        assert_string_equal(text, "");
        assert_string_equal(s.pubsub_emulator_host, "http://localhost:8085");
    }
    setenv("PUBSUB_ENDPOINT", "https://pubsub.example", 1);
    assert_told(SERVICE_BOTH, "PUBSUB_ENDPOINT and PUBSUB_EMULATOR_HOST");
    unsetenv("PUBSUB_EMULATOR_HOST");
    assert_told(SERVICE_BOTH, NULL);
    setenv("CLASS_TOPIC", "x", 1);
    assert_told(SERVICE_CLASSIFY, "CLASS_TOPIC: ");
    assert_told(SERVICE_PREPROCESS, NULL);
    setenv("CLASS_TOPIC", "img-classified", 1);
    assert_told(SERVICE_CLASSIFY, NULL);
}

/* Both or neither: half of it would let everybody in, or nobody. */
TEST_WITH(test_auth_pairs, clear, NULL)
{
    setenv("PUSH_AUDIENCE", "https://x", 1);
    assert_told(SERVICE_CLASSIFY, "PUSH_AUDIENCE, PUSH_SERVICE_ACCOUNT: set both");
    assert_told(SERVICE_PREPROCESS, NULL); /* not its business */
    setenv("PUSH_SERVICE_ACCOUNT", "a@b", 1);
    setenv("OIDC_ISSUER", "https://issuer.example", 1); /* for the other service's sake */
    assert_told(SERVICE_CLASSIFY, NULL);
    assert_told(SERVICE_PREPROCESS, NULL);
    unsetenv("PUSH_AUDIENCE");
    assert_told(SERVICE_CLASSIFY, "PUSH_AUDIENCE, PUSH_SERVICE_ACCOUNT: set both");
    assert_told(SERVICE_PREPROCESS, "OIDC_ISSUER, OIDC_JWKS_URL: unused without");
    setenv("AUTH_AUDIENCE", "https://x", 1);
    assert_told(SERVICE_PREPROCESS, "AUTH_AUDIENCE, AUTH_EMAILS: set both");
}

TEST_WITH(test_auth_values, clear, NULL)
{
    static const char *const pairs[][2] = {{"PUSH_AUDIENCE", "x"},
                                           {"PUSH_SERVICE_ACCOUNT", "a@b"},
                                           {"AUTH_AUDIENCE", "x"},
                                           {"AUTH_EMAILS", "a@b, c@d ,"}};
    static const char *const bad_emails[] = {"*",     "*@b", "@b",    "a@",     ",",
                                             "a@b@c", "a",   "a@b,c", "a@b;c@d"};
    static const char *const good_urls[] = {
        "https://x",          "https://x:1/y?z=1",      "http://127.0.0.1:80/x",
        "http://localhost/x", "http://[::1]:8000/keys", "http://127.3.2.1"};
    static const char *const bad_urls[] = {"http://x",
                                           "http://127.0.0.1.example/",
                                           "http://localhost.example",
                                           "http://127.0.0.1@x/",
                                           "http://127.1/",
                                           "http://[::1].x/",
                                           "http://[::2]/",
                                           "http://0.0.0.0/",
                                           "https://",
                                           "https:///x",
                                           "https://u:p@x/",
                                           "https://a b/",
                                           "ftp://127.0.0.1/",
                                           "x",
                                           "http://"};

    set_all(pairs, ARRAY_SIZE(pairs));
    assert_told(SERVICE_CLASSIFY, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(good_urls); i++) {
        setenv("OIDC_JWKS_URL", good_urls[i], 1);
        assert_told(SERVICE_CLASSIFY, NULL);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad_urls); i++) {
        setenv("OIDC_JWKS_URL", bad_urls[i], 1);
        assert_told(SERVICE_CLASSIFY, "OIDC_JWKS_URL: ");
    }
    unsetenv("OIDC_JWKS_URL");
    for (size_t i = 0; i < ARRAY_SIZE(bad_emails); i++) {
        setenv("AUTH_EMAILS", bad_emails[i], 1);
        assert_told(SERVICE_CLASSIFY, "AUTH_EMAILS: ");
    }
    setenv("AUTH_EMAILS", "a@b", 1);
    setenv("PUSH_SERVICE_ACCOUNT", "a@b,c@d", 1);
    assert_told(SERVICE_CLASSIFY, "PUSH_SERVICE_ACCOUNT: ");
    setenv("PUSH_SERVICE_ACCOUNT", "a@b", 1);
    setenv("AUTH_AUDIENCE", "a, b", 1);
    assert_told(SERVICE_CLASSIFY, "AUTH_AUDIENCE: ");
}

TEST_MAIN(NULL, NULL)
