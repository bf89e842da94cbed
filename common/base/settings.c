#include "base/settings.h"

#include "base/cpu_count.h"
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
           "file:///dir or file:dir (default file:data/objects)"),
    STRING("BUCKET", BOTH, NULL, bucket, "BUCKET=name is STORAGE_URL=gs://name"),
    STRING("ALLOWED_BUCKETS", CLASS, NULL, allowed_buckets,
           "comma list of bucket[/prefix] to read from (default: STORAGE_URL's)"),

    STRING("EVENTS_URL", PREP, "push+http://127.0.0.1:8001/pubsub", events_url,
           "push+http://host:port/pubsub, push+https://..., or none:"),
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

    STRING("MODEL", CLASS, "build/models/mobilenet_v2.json", model, "path of the model's manifest"),
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
}

static void check_urls(const struct settings *s, struct buffer *mistakes)
{
    const char *events = text(s->events_url), *base = text(s->results_base_url);

    if (*events != '\0' && strcmp(events, "none:") != 0 &&
        !(string_starts_with(events, "push+") && is_http_url(events + strlen("push+"))))
        config_mistake(mistakes, "EVENTS_URL: none of push+http://host:port/pubsub, "
                                 "push+https://..., none:");
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
    *ret = (struct settings){0};
    bool ok = config_read(table, ARRAY_SIZE(table), service, ret, mistakes);
    if (ret->workers == 0)
        ret->workers = cpu_count();
    check_storage(ret, mistakes);
    check_buckets(ret, mistakes);
    check_urls(ret, mistakes);
    check_ephemeral(ret, mistakes);
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
