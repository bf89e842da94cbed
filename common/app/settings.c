#include "app/settings.h"

enum {
    KIB = 1024,
    MIB = 1024 * 1024,
};
#define GIB (1024LL * MIB)

#define ROW(name, type, who, fallback, min, max, choices, secret, field, help)                     \
    {                                                                                              \
        name, type, who, fallback, min, max, choices, secret, offsetof(struct settings, field),    \
            help                                                                                   \
    }
#define STRING(name, who, fallback, field, help)                                                   \
    ROW(name, SETTING_STRING, who, fallback, 0, 0, NULL, false, field, help)
#define SECRET(name, who, field, help)                                                             \
    ROW(name, SETTING_STRING, who, NULL, 0, 0, NULL, true, field, help)
#define INT(name, who, fallback, min, max, field, help)                                            \
    ROW(name, SETTING_INT, who, fallback, min, max, NULL, false, field, help)
#define BOOL(name, who, fallback, field, help)                                                     \
    ROW(name, SETTING_BOOL, who, fallback, 0, 0, NULL, false, field, help)
#define CHOICE(name, who, fallback, choices, field, help)                                          \
    ROW(name, SETTING_CHOICE, who, fallback, 0, 0, choices, false, field, help)

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
    INT("MAX_PIXELS", BOTH, "110000000", 1, 1000000000, max_pixels,
        "largest image (width x height), from its header"),
    INT("MAX_DECODE_BYTES", BOTH, "536870912", MIB, 64 * GIB, max_decode_bytes,
        "most memory a decode may need, estimated from the header"),
    INT("DECODE_BUDGET_BYTES", BOTH, "536870912", MIB, 64 * GIB, decode_budget_bytes,
        "memory of all large decodes together; more of them wait; one above it runs alone"),
    INT("MAX_CONNECTIONS", BOTH, "1000", 1, 100000, max_connections,
        "above it the longest-idle connection is closed"),
    INT("MAX_INFLIGHT", BOTH, "256", 1, 100000, max_inflight,
        "requests past their headers; above it 503"),
    INT("BODY_BUDGET_BYTES", BOTH, "134217728", MIB, 1024 * GIB, body_budget_bytes,
        "bytes buffered over all bodies in flight; above it the slowest body goes"),
    INT("BODY_STALL_MS", BOTH, "10000", 100, 100000, body_stall_ms,
        "no byte of a body for so long: 408"),
    INT("BODY_MIN_RATE", BOTH, "1024", 1, GIB, body_min_rate,
        "bytes/s that a body averages at least after 5 s; below it 408"),
    INT("WORKERS", BOTH, "0", 0, 1024, workers,
        "worker threads for CPU work (0: the CPUs this process may use)"),
    INT("QUEUE_MAX", BOTH, "64", 1, 100000, queue_max, "jobs that may wait for a worker"),
    INT("REQUEST_TIMEOUT_MS", BOTH, "30000", 100, 3600000, request_timeout_ms,
        "from the body's last byte to the reply; a slow body does not use it up"),
    INT("SHUTDOWN_NOTICE_MS", BOTH, "0", 0, 600000, shutdown_notice_ms,
        "time after SIGTERM in which /readyz is 503 and requests are still answered: gateways turn "
        "away"),
    INT("SHUTDOWN_GRACE_MS", BOTH, "8000", 600, 3600000, shutdown_grace_ms,
        "from SIGTERM, or the end of the notice, to exit"),
    STRING("CA_FILE", BOTH, NULL, ca_file,
           "CA bundle for all outgoing TLS (default: the system's)"),
    BOOL("IMAGES", PREP, "on", images, "GET /images/{id} (off: 404)"),
    STRING("CORS_ORIGINS", BOTH, NULL, cors_origins,
           "comma list of origins browsers may upload from, or *"),
    STRING("RESULTS_BASE_URL", PREP, NULL, results_base_url,
           "base of result_url in replies, e.g. http://127.0.0.1:8001"),

    STRING("STORAGE_URL", BOTH, NULL, storage_url,
           "file:///dir, file:dir, s3://bucket[/prefix] or gs://bucket[/prefix] (default "
           "file:data/objects)"),
    STRING("BUCKET", BOTH, NULL, bucket, "BUCKET=name is STORAGE_URL=gs://name"),
    STRING("SEAL_KEYS_FILE", BOTH, NULL, seal_keys_file,
           "keys of sealed objects: 32 bytes in base64 a line, the newest last"),
    CHOICE("SEAL", PREP, "asked", "asked|always", seal,
           "which uploads are encrypted in the store: those with seal=1, or all"),
    INT("RETENTION_DAYS", PREP, "0", 0, 36500, retention_days,
        "age at which objects, results and tasks in a file store are deleted (0: never)"),
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

    /* secret, since the URL may hold a password */
    ROW("EVENTS_URL", SETTING_STRING, PREP, "push+http://127.0.0.1:8001/pubsub", 0, 0, NULL, true,
        events_url,
        "push+http://host:port/pubsub, push+https://..., pubsub://projects/P/topics/T, "
        "amqp(s)://user:password@host:port/vhost, or none:"),
    SECRET("SOURCE_URL", CLASS, source_url,
           "amqp(s)://user:password@host:port/vhost: take events from RabbitMQ, too"),
    BOOL("AMQP_OLD_QUEUE", CLASS, "off", amqp_old_queue,
         "be the older image manager's classifier, too: its queue at SOURCE_URL"),
    STRING("IMAGEDISK_HOST", CLASS, "localhost", imagedisk_host,
           "the older image storage, the only place it fetches from"),
    INT("IMAGEDISK_PORT", CLASS, "3000", 1, 65535, imagedisk_port, "its port"),
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
    /* secret, since the URL may hold a password */
    ROW("CATALOGUE_URL", SETTING_STRING, PREP, "sqlite:data/catalogue.db", 0, 0, NULL, true,
        catalogue_url,
        "what was uploaded: sqlite:PATH, postgresql://..., or none: (default on Cloud Run: none:)"),
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
           "e-mail address of these tokens' account"),
    STRING("AUTH_AUDIENCE", BOTH, NULL, auth_audience,
           "audience of the OIDC tokens that all routes require but health, sign-in and, with "
           "PUSH_TOKEN or PUSH_AUDIENCE, /pubsub (default: none)"),
    STRING("AUTH_EMAILS", BOTH, NULL, auth_emails,
           "comma list of the accounts that may call those routes"),
    STRING("OIDC_ISSUER", BOTH, "https://accounts.google.com", oidc_issuer,
           "issuer of these tokens"),
    STRING("OIDC_JWKS_URL", BOTH, "https://www.googleapis.com/oauth2/v3/certs", oidc_jwks_url,
           "its keys: https://..., or http:// on loopback"),

    BOOL("USERS", PREP, "off", users,
         "uploads and listings need a user, who signs up at /v1/users"),
    /* secret, since the URL may hold a password */
    SECRET("USERS_URL", PREP, users_url,
           "accounts: sqlite:PATH or postgresql://... (default: CATALOGUE_URL if that is "
           "PostgreSQL, else sqlite:data/users.db)"),
    STRING("TOKEN_KEY_FILE", PREP, "data/token.keys", token_key_file,
           "keys of users' tokens, made when it is missing"),
    STRING("ADMINS", PREP, NULL, admins,
           "comma list of names and e-mail addresses of users who may change every picture"),
    BOOL("IMAGE_MANAGER_API", PREP, "off", image_manager_api,
         "the older image manager's routes; needs USERS=on, IMAGES=on, CATALOGUE_URL and "
         "SEAL_KEYS_FILE"),
    SECRET("IMAGE_MANAGER_SECRET", PREP, image_manager_secret,
           "signs its tokens by HS256: 32 bytes or more (default: tokens of /v1/tokens)"),
    INT("PROXIES", PREP, "0", 0, 16, proxies,
        "number of proxies that add to X-Forwarded-For: sign-ins are limited by client address "
        "(default on Cloud Run: 1)"),

    BOOL("SANDBOX", BOTH, "on", sandbox,
         "decode images in processes that can do nothing else (off: for debugging)"),
    STRING("UPLOADER_URL", PREP, NULL, uploader_url,
           "where /process has pictures uploaded: http://host:50060/upload (default: here)"),
    STRING("NOISE_URL", PREP, NULL, noise_url,
           "where it has noise reduced: http://host:50061/reduce (default: here)"),
    STRING("BACKGROUND_URL", PREP, NULL, background_url,
           "where it has backgrounds removed: http://host:50062/remove (default: here)"),
    STRING("CLASSIFIER_URL", PREP, "http://127.0.0.1:8001/classify", classifier_url,
           "where it has pictures classified"),
    STRING("UPLOADER_ADDR", PREP, NULL, uploader_addr,
           "host:port of the same by gRPC, in place of UPLOADER_URL"),
    STRING("NOISE_ADDR", PREP, NULL, noise_addr, "in place of NOISE_URL"),
    STRING("BACKGROUND_ADDR", PREP, NULL, background_addr, "in place of BACKGROUND_URL"),
    STRING("CLASSIFIER_ADDR", PREP, NULL, classifier_addr, "in place of CLASSIFIER_URL"),
    BOOL("REMOVE_BACKGROUND", PREP, "on", remove_background,
         "the option remove_background (off: it is refused; saves up to 300 MB of memory)"),
    INT("BACKGROUND_CONCURRENCY", PREP, "1", 1, 64, background_concurrency,
        "pictures at a time whose background is removed; each takes some 100 MB"),
    STRING("BACKGROUND_MODEL", PREP, "build/models/u2netp.json", background_model,
           "path of the manifest of remove_background's model, read at first use"),
    STRING("MODEL", CLASS, "build/models/model.json", model, "path of the model's manifest"),
    BOOL("ALLOW_EPHEMERAL", BOTH, "off", allow_ephemeral,
         "allow a file store or outbox on Cloud Run, where disks vanish"),
};

bool settings_read(enum service_kind service, struct settings *ret, struct buffer *mistakes)
{
    return config_read(table, ARRAY_SIZE(table), service, ret, mistakes);
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
