#include "app/settings.h"

#include "app/cpu_count.h"
#include "app/settings_auth.h"
#include "base/strings.h"

#include <string.h>

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
};
#define GIB (1024LL * MIB)

#define FIELD(f) offsetof(struct settings, f)
#define STRING(name, who, fallback, field, help)                                                   \
    {                                                                                              \
        name, SETTING_STRING, who, fallback, 0, 0, NULL, false, FIELD(field), help                 \
    }
#define SECRET(name, who, field, help)                                                             \
    {                                                                                              \
        name, SETTING_STRING, who, NULL, 0, 0, NULL, true, FIELD(field), help                      \
    }
#define INT(name, who, fallback, min, max, field, help)                                            \
    {                                                                                              \
        name, SETTING_INT, who, fallback, min, max, NULL, false, FIELD(field), help                \
    }
#define BOOL(name, who, fallback, field, help)                                                     \
    {                                                                                              \
        name, SETTING_BOOL, who, fallback, 0, 0, NULL, false, FIELD(field), help                   \
    }
#define CHOICE(name, who, fallback, choices, field, help)                                          \
    {                                                                                              \
        name, SETTING_CHOICE, who, fallback, 0, 0, choices, false, FIELD(field), help              \
    }

#define PREP SERVICE_PREPROCESS
#define CLASS SERVICE_CLASSIFY
#define BOTH SERVICE_BOTH

static const struct setting table[] = {
    INT("PORT", PREP, "8000", 1, 65535, port, "TCP port to listen on"),
    INT("PORT", CLASS, "8001", 1, 65535, port, "TCP port to listen on"),
    STRING("HOST", BOTH, "0.0.0.0", host, "address to listen on"),
    CHOICE("LOG_LEVEL", BOTH, "info", "debug|info|warning|error", log_level,
           "least severity logged"),
    CHOICE("LOG_FORMAT", BOTH, "json", "json|text", log_format, "one JSON object or text a line"),

    INT("MAX_BODY_BYTES", BOTH, "33554432", KIB, GIB, max_body_bytes, "largest request body"),
    INT("MAX_PIXELS", BOTH, "50000000", 1, 1000000000, max_pixels,
        "largest image (width x height x pages), from its header"),
    INT("MAX_DECODE_BYTES", BOTH, "268435456", MIB, 64 * GIB, max_decode_bytes,
        "most memory a decode may need, estimated from the header"),
    INT("MAX_CONNECTIONS", BOTH, "1000", 1, 100000, max_connections,
        "above it the longest-idle connection is closed"),
    INT("MAX_INFLIGHT", BOTH, "256", 1, 100000, max_inflight,
        "requests past their headers; above it 503"),
    INT("BODY_BUDGET_BYTES", BOTH, "134217728", MIB, 1024 * GIB, body_budget_bytes,
        "bytes buffered over all bodies in flight"),
    INT("WORKERS", BOTH, "0", 0, 1024, workers,
        "worker threads for CPU work (0: the CPUs this process may use)"),
    INT("QUEUE_MAX", BOTH, "64", 1, 100000, queue_max, "jobs that may wait for a worker"),
    INT("REQUEST_TIMEOUT_MS", BOTH, "30000", 100, 3600000, request_timeout_ms,
        "from the body's last byte to the reply"),
    INT("SHUTDOWN_GRACE_MS", BOTH, "8000", 600, 3600000, shutdown_grace_ms, "from SIGTERM to exit"),
    STRING("CA_FILE", BOTH, NULL, ca_file,
           "CA bundle for all outgoing TLS (default: the system's)"),
    BOOL("IMAGES", PREP, "on", images, "GET /images/{id}"),
    STRING("CORS_ORIGINS", BOTH, NULL, cors_origins,
           "comma list of origins browsers may upload from, or *"),
    STRING("RESULTS_BASE_URL", PREP, NULL, results_base_url,
           "base of result_url in replies, e.g. http://127.0.0.1:8001"),

    STRING("STORAGE_URL", BOTH, NULL, storage_url,
           "file:///dir, file:dir, s3://bucket[/prefix] or gs://bucket[/prefix] (default "
           "file:data/objects)"),
    STRING("BUCKET", BOTH, NULL, bucket, "BUCKET=name is STORAGE_URL=gs://name"),
    INT("RETENTION_DAYS", PREP, "0", 0, 36500, retention_days,
        "age at which objects and results in a file store are deleted (0: never)"),
    STRING("ALLOWED_BUCKETS", CLASS, NULL, allowed_buckets,
           "comma list of bucket[/prefix] to read from (default: STORAGE_URL's)"),
    STRING("S3_ENDPOINT", BOTH, NULL, s3_endpoint,
           "http(s)://host[:port] of an S3 server (default: Amazon's)"),
    STRING("S3_REGION", BOTH, "us-east-1", s3_region, "region of the bucket"),
    CHOICE("S3_ADDRESSING", BOTH, "path", "path|virtual", s3_addressing,
           "host/bucket/key or bucket.host/key"),
    CHOICE("S3_SIGNATURE", BOTH, "v4", "v4|v2", s3_signature,
           "v2: the old signature, by libs3, over http on a private network"),
    SECRET("AWS_ACCESS_KEY_ID", BOTH, aws_access_key_id, "credentials for s3://"),
    SECRET("AWS_SECRET_ACCESS_KEY", BOTH, aws_secret_access_key, "credentials for s3://"),
    SECRET("AWS_SESSION_TOKEN", BOTH, aws_session_token, "of temporary credentials"),
    STRING("GCS_ENDPOINT", BOTH, NULL, gcs_endpoint,
           "http(s)://host[:port] for gs:// (default: Google's)"),
    STRING("STORAGE_EMULATOR_HOST", BOTH, NULL, storage_emulator_host,
           "host:port or URL of a GCS emulator, used without credentials"),
    STRING("GCE_METADATA_HOST", BOTH, NULL, gce_metadata_host,
           "host[:port] of the metadata server (default: metadata.google.internal)"),
    STRING("GOOGLE_APPLICATION_CREDENTIALS", BOTH, NULL, google_application_credentials,
           "service-account key file (default: the metadata server is asked)"),

    STRING(
        "EVENTS_URL", PREP, "push+http://127.0.0.1:8001/pubsub", events_url,
        "push+http://host:port/pubsub, push+https://..., pubsub://projects/P/topics/T, or none:"),
    STRING("PREP_TOPIC", PREP, NULL, prep_topic,
           "Pub/Sub topic of events, T or projects/P/topics/T: EVENTS_URL=pubsub://..."),
    STRING("CLASS_TOPIC", CLASS, NULL, class_topic,
           "Pub/Sub topic of stored results, T or projects/P/topics/T"),
    STRING("GOOGLE_CLOUD_PROJECT", BOTH, NULL, google_cloud_project,
           "project of topics (default: the metadata server is asked)"),
    STRING("PUBSUB_ENDPOINT", BOTH, NULL, pubsub_endpoint,
           "http(s)://host[:port] of Pub/Sub (default: Google's)"),
    STRING("PUBSUB_EMULATOR_HOST", BOTH, NULL, pubsub_emulator_host,
           "host:port or URL of a Pub/Sub emulator, used without credentials"),
    STRING("OUTBOX_PATH", PREP, "data/outbox.db", outbox_path, "events not yet delivered (SQLite)"),
    INT("OUTBOX_MAX_PENDING", PREP, "100000", 1, 100000000, outbox_max_pending,
        "undelivered events; above it 503"),
    INT("PUSH_CONCURRENCY", PREP, "4", 1, 64, push_concurrency, "deliveries at a time"),
    INT("MAX_DELIVERY_ATTEMPTS", PREP, "20", 1, 1000000, max_delivery_attempts,
        "refusals before an event becomes a dead letter"),
    INT("DELIVERY_MAX_AGE_S", PREP, "604800", 1, 31536000, delivery_max_age_s,
        "age at which a refused event becomes a dead letter"),
    SECRET("PUSH_TOKEN", BOTH, push_token,
           "secret of both services: sent with pushes, required on /pubsub"),
    STRING("PUSH_AUDIENCE", CLASS, NULL, push_audience,
           "audience of the OIDC tokens that Pub/Sub pushes to /pubsub carry"),
    STRING("PUSH_SERVICE_ACCOUNT", CLASS, NULL, push_service_account,
           "e-mail address of the account they are of"),
    STRING("AUTH_AUDIENCE", BOTH, NULL, auth_audience,
           "audience of the OIDC tokens that all other routes want (default: none wanted)"),
    STRING("AUTH_EMAILS", BOTH, NULL, auth_emails,
           "comma list of the accounts that may call these"),
    STRING("OIDC_ISSUER", BOTH, "https://accounts.google.com", oidc_issuer,
           "issuer of these tokens"),
    STRING("OIDC_JWKS_URL", BOTH, "https://www.googleapis.com/oauth2/v3/certs", oidc_jwks_url,
           "its keys: https://..., or http:// on loopback"),

    BOOL("SANDBOX", BOTH, "on", sandbox,
         "decode images in processes that can do nothing else (off: for debugging)"),
    STRING("MODEL", CLASS, "build/models/model.json", model, "path of the model's manifest"),
    BOOL("ALLOW_EPHEMERAL", BOTH, "off", allow_ephemeral,
         "allow a file store or outbox on Cloud Run, where disks vanish"),
};

/* The fields of rows with mistakes are NULL. */
static const char *text(const char *field)
{
    return field != NULL ? field : "";
}

static bool is_http_url(const char *url)
{
    size_t scheme = string_starts_with(url, "https://")  ? 8
                    : string_starts_with(url, "http://") ? 7
                                                         : 0;

    const char *host = url + scheme;
    bool has_user = memchr(host, '@', strcspn(host, "/?#")) != NULL; /* it would end in logs */
    return scheme != 0 && !has_user && url[scheme] != '\0' && strchr("/?#:", url[scheme]) == NULL &&
           strpbrk(url, " \t\"<>\\^`{|}") == NULL;
}

static void check_storage(struct settings *s, struct buffer *mistakes)
{
    const char *url = text(s->storage_url), *bucket = text(s->bucket);

    if (*bucket != '\0' && *url != '\0') {
        const char *host = strstr(url, "://");
        size_t len = strlen(bucket);
        if (host == NULL || strncmp(host + 3, bucket, len) != 0 ||
            (host[3 + len] != '\0' && host[3 + len] != '/'))
            config_mistake(mistakes, "BUCKET and STORAGE_URL name different buckets: set one");
    }
    if (*url != '\0') {
        if (!string_starts_with(url, "file:") && !string_starts_with(url, "s3://") &&
            !string_starts_with(url, "gs://"))
            config_mistake(mistakes, "STORAGE_URL: not a file:, s3: or gs: URL");
        return;
    }
    free(s->storage_url);
    s->storage_url =
        *bucket != '\0' ? string_format("gs://%s", bucket) : strdup("file:data/objects");
    if (s->storage_url == NULL)
        config_mistake(mistakes, "STORAGE_URL: out of memory");
}

static void check_buckets(const struct settings *s, struct buffer *mistakes)
{
    if (*text(s->allowed_buckets) != '\0' && string_starts_with(text(s->storage_url), "file:"))
        config_mistake(mistakes, "ALLOWED_BUCKETS: a file store has no buckets");
    if (s->retention_days > 0 && !string_starts_with(text(s->storage_url), "file:"))
        config_mistake(mistakes, "RETENTION_DAYS: for a file store only; give the bucket a "
                                 "lifecycle rule");
}

/* "http(s)://host[:port]", at most with a slash behind it. */
static void check_endpoint(const char *name, const char *url, struct buffer *mistakes)
{
    const char *scheme = strstr(url, "://");
    const char *path = scheme != NULL ? scheme + 3 + strcspn(scheme + 3, "/?#") : "";

    if (*url != '\0' &&
        (scheme == NULL || !is_http_url(url) || (*path != '\0' && strcmp(path, "/") != 0)))
        config_mistake(mistakes, "%s: not http(s)://host[:port]", name);
}

static void check_s3(const struct settings *s, struct buffer *mistakes)
{
    bool v2 = strcmp(text(s->s3_signature), "v2") == 0;

    check_endpoint("S3_ENDPOINT", text(s->s3_endpoint), mistakes);
    if (text(s->s3_region)[strspn(text(s->s3_region), "abcdefghijklmnopqrstuvwxyz0123456789-_")] !=
        '\0')
        config_mistake(mistakes, "S3_REGION: not a region's name");
    if (!string_starts_with(text(s->storage_url), "s3://"))
        return;
    if (*text(s->aws_access_key_id) == '\0' || *text(s->aws_secret_access_key) == '\0')
        config_mistake(mistakes,
                       "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: s3:// needs both of them");
    if (v2 && !string_starts_with(text(s->s3_endpoint), "http://"))
        config_mistake(mistakes,
                       "S3_SIGNATURE=v2: needs an http:// S3_ENDPOINT, since libs3 cannot "
                       "verify a TLS peer; use v4");
    if (v2 && *text(s->aws_session_token) != '\0')
        config_mistake(mistakes, "S3_SIGNATURE=v2: has no session tokens; use v4");
}

/* An endpoint, or an emulator of it as host:port, which becomes a URL. */
static void check_emulator(const char *endpoint_name, const char *endpoint, const char *name,
                           char **emulator, struct buffer *mistakes)
{
    check_endpoint(endpoint_name, endpoint, mistakes);
    if (*text(*emulator) == '\0')
        return;
    if (*endpoint != '\0') {
        config_mistake(mistakes, "%s and %s: set one", endpoint_name, name);
        return;
    }
    if (strstr(*emulator, "://") == NULL) {
        char *url = string_format("http://%s", *emulator);
        free(*emulator);
        *emulator = url;
        if (url == NULL)
            config_mistake(mistakes, "%s: out of memory", name);
    }
    check_endpoint(name, text(*emulator), mistakes);
}

static void check_gcs(struct settings *s, struct buffer *mistakes)
{
    check_emulator("GCS_ENDPOINT", text(s->gcs_endpoint), "STORAGE_EMULATOR_HOST",
                   &s->storage_emulator_host, mistakes);
}

/* Cloud Pub/Sub, "Resource names". */
static bool is_topic_id(const char *id)
{
    size_t len = strlen(id);
    bool letter = (*id >= 'a' && *id <= 'z') || (*id >= 'A' && *id <= 'Z');

    return len >= 3 && len <= 255 && letter &&
           id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+%")] ==
               '\0';
}

static size_t project_len(const char *id)
{
    return strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-.:");
}

/* The T of "projects/P/topics/T", or NULL. */
static const char *topic_id(const char *topic)
{
    static const char projects[] = "projects/", topics[] = "/topics/";
    const char *project = topic + strlen(projects);

    if (!string_starts_with(topic, projects))
        return NULL;
    const char *end = project + project_len(project);
    if (end == project || !string_starts_with(end, topics) || !is_topic_id(end + strlen(topics)))
        return NULL;
    return end + strlen(topics);
}

static bool check_topic(const char *name, const char *topic, struct buffer *mistakes)
{
    return *topic == '\0' || is_topic_id(topic) || topic_id(topic) != NULL ||
           config_mistake(mistakes, "%s: neither a topic's name nor projects/P/topics/T", name);
}

/* EVENTS_URL=pubsub://projects/P/topics/T and PREP_TOPIC, as far as is known. */
static bool is_same_topic(const struct settings *s, const char *events_url)
{
    const char *topic = text(s->prep_topic), *project = text(s->google_cloud_project);

    if (!string_starts_with(events_url, "pubsub://"))
        return false;
    const char *full = events_url + strlen("pubsub://");
    const char *id = topic_id(full);
    if (id == NULL || topic_id(topic) != NULL)
        return strcmp(full, topic) == 0;
    const char *given = full + strlen("projects/");
    return strcmp(id, topic) == 0 && (*project == '\0' || (project_len(given) == strlen(project) &&
                                                           string_starts_with(given, project)));
}

/* PREP_TOPIC is EVENTS_URL=pubsub://…, unless that is set itself. */
static void check_prep_topic(struct settings *s, struct buffer *mistakes)
{
    const char *events = getenv("EVENTS_URL");

    if (!check_topic("PREP_TOPIC", text(s->prep_topic), mistakes) || *text(s->prep_topic) == '\0')
        return;
    if (events != NULL && *events != '\0') {
        if (!is_same_topic(s, events))
            config_mistake(mistakes, "EVENTS_URL and PREP_TOPIC name different topics: set one");
        return;
    }
    free(s->events_url);
    s->events_url = string_format("pubsub://%s", s->prep_topic);
    if (s->events_url == NULL)
        config_mistake(mistakes, "PREP_TOPIC: out of memory");
}

static void check_pubsub(struct settings *s, struct buffer *mistakes)
{
    const char *project = text(s->google_cloud_project);

    if (project[project_len(project)] != '\0')
        config_mistake(mistakes, "GOOGLE_CLOUD_PROJECT: not a project's id");
    check_emulator("PUBSUB_ENDPOINT", text(s->pubsub_endpoint), "PUBSUB_EMULATOR_HOST",
                   &s->pubsub_emulator_host, mistakes);
    check_topic("CLASS_TOPIC", text(s->class_topic), mistakes);
    check_prep_topic(s, mistakes);
}

static void check_urls(const struct settings *s, struct buffer *mistakes)
{
    const char *events = text(s->events_url), *base = text(s->results_base_url);

    if (*events != '\0' && strcmp(events, "none:") != 0 &&
        !(string_starts_with(events, "push+") && is_http_url(events + strlen("push+"))) &&
        !(string_starts_with(events, "pubsub://") && topic_id(events + strlen("pubsub://"))))
        config_mistake(mistakes, "EVENTS_URL: none of push+http://host:port/pubsub, "
                                 "push+https://..., pubsub://projects/P/topics/T, none:");
    if (*base != '\0' && (!is_http_url(base) || strpbrk(base, "?#") != NULL))
        config_mistake(mistakes,
                       "RESULTS_BASE_URL: not an http:// or https:// URL without a query");
}

static void check_ephemeral(const struct settings *s, struct buffer *mistakes)
{
    const char *instance = getenv("K_SERVICE");

    if (instance == NULL || *instance == '\0' || s->allow_ephemeral)
        return;
    if (string_starts_with(text(s->storage_url), "file:"))
        config_mistake(mistakes, "STORAGE_URL: on Cloud Run files vanish with the instance; use "
                                 "gs:// or s3://, or set ALLOW_EPHEMERAL=1");
    if (string_starts_with(text(s->events_url), "push+"))
        config_mistake(mistakes, "EVENTS_URL: on Cloud Run the outbox vanishes with the instance; "
                                 "use Pub/Sub, or set ALLOW_EPHEMERAL=1");
}

/* "http://host/" and "http://host" are the same base. */
static void cut_slashes(char *url)
{
    size_t len = strlen(text(url));

    while (len > 0 && url[len - 1] == '/')
        url[--len] = '\0';
}

bool settings_load(enum service_kind service, struct settings *ret, struct buffer *mistakes)
{
    struct error no_room = {0};

    *ret = (struct settings){0};
    /* room for a first mistake: none must be lost for want of memory */
    if (!buffer_reserve(mistakes, CONFIG_MISTAKE_MAX, &no_room))
        return false;
    bool ok = config_read(table, ARRAY_SIZE(table), service, ret, mistakes);
    if (ret->workers == 0)
        ret->workers = cpu_count();
    check_storage(ret, mistakes);
    check_buckets(ret, mistakes);
    check_s3(ret, mistakes);
    check_gcs(ret, mistakes);
    check_urls(ret, mistakes);
    check_pubsub(ret, mistakes);
    check_ephemeral(ret, mistakes);
    settings_check_auth(ret, mistakes);
    cut_slashes(ret->results_base_url);
    return ok && mistakes->len == 0;
}

void settings_done(struct settings *settings)
{
    config_done(table, ARRAY_SIZE(table), settings);
}

bool settings_describe(enum service_kind service, const struct settings *settings,
                       struct buffer *out, struct error *err)
{
    return config_describe(table, ARRAY_SIZE(table), service, settings, out, err);
}

void settings_print_help(enum service_kind service, FILE *out)
{
    config_print_help(table, ARRAY_SIZE(table), service, out);
}
