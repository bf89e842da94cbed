/* The rules between settings, and what a setting must look like beyond its row in settings.c. */
#include "app/cpu_count.h"
#include "app/outgoing.h"
#include "app/settings.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "db/db.h"
#include "events/amqp/amqp_url.h"
#include "store/allowed_stores.h"

#include <ctype.h>
#include <string.h>

/* The fields of rows with mistakes are NULL. */
static const char *text(const char *field)
{
    return field != NULL ? field : "";
}

static bool is_set(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0';
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
    if (*url == '\0') {
        free(s->storage_url);
        s->storage_url =
            *bucket != '\0' ? xasprintf("gs://%s", bucket) : xstrdup("file:data/objects");
    }
}

static bool store_mistake(void *mistakes, const char *why)
{
    bool bucket = !is_set("STORAGE_URL") && is_set("BUCKET");

    return config_mistake(mistakes, "%s: %s", bucket ? "BUCKET" : "STORAGE_URL", why);
}

/* What the store would refuse to be opened with, as far as the checks here do not say it. */
static void check_store(const struct settings *s, struct buffer *mistakes)
{
    struct store_options options = storage_options(s);

    options.s3.region = "";
    if (s->aws_access_key_id == NULL)
        options.s3.access_key = "malformed";
    if (s->aws_secret_access_key == NULL)
        options.s3.secret_key = "malformed";
    (void)!store_check(&options, store_mistake, mistakes);
}

static bool allowed_mistake(void *mistakes, const char *why)
{
    return config_mistake(mistakes, "ALLOWED_BUCKETS: %s", why);
}

static void check_buckets(const struct settings *s, struct buffer *mistakes)
{
    const char *url = text(s->storage_url), *allowed = text(s->allowed_buckets);
    const bool is_file = string_starts_with(url, "file:");

    if (*allowed != '\0' && is_file)
        allowed_mistake(mistakes, "a file store has no buckets");
    else
        (void)!store_set_check(url, allowed, allowed_mistake, mistakes);
    if (s->retention_days > 0 && !is_file)
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
    const char *region = text(s->s3_region);

    check_endpoint("S3_ENDPOINT", text(s->s3_endpoint), mistakes);
    if (region[strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-_")] != '\0')
        config_mistake(mistakes, "S3_REGION: not a region's name");
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
        char *url = xasprintf("http://%s", *emulator);
        free(*emulator);
        *emulator = url;
    }
    check_endpoint(name, text(*emulator), mistakes);
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
    s->events_url = xasprintf("pubsub://%s", s->prep_topic);
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

static void check_broker(const char *name, const char *url, struct buffer *mistakes)
{
    struct amqp_url ignored;
    struct error err = {0};

    if (!amqp_url_parse(url, &ignored, &err))
        config_mistake(mistakes, "%s: %s", name, err.message);
    explicit_bzero(&ignored, sizeof(ignored));
}

static void check_urls(const struct settings *s, struct buffer *mistakes)
{
    const char *events = text(s->events_url), *base = text(s->results_base_url);

    if (*events != '\0' && strcmp(events, "none:") != 0 &&
        !(string_starts_with(events, "push+") && is_http_url(events + strlen("push+"))) &&
        !(string_starts_with(events, "pubsub://") && topic_id(events + strlen("pubsub://"))) &&
        !amqp_url_is(events))
        config_mistake(mistakes, "EVENTS_URL: must be push+http://host:port/pubsub, "
                                 "push+https://..., pubsub://projects/P/topics/T, "
                                 "amqp(s)://host/vhost or none:");
    if (amqp_url_is(events))
        check_broker("EVENTS_URL", events, mistakes);
    if (*text(s->source_url) != '\0')
        check_broker("SOURCE_URL", s->source_url, mistakes);
    if (*base != '\0' && (!is_http_url(base) || strpbrk(base, "?#") != NULL))
        config_mistake(mistakes,
                       "RESULTS_BASE_URL: not an http:// or https:// URL without a query");
}

/* On Cloud Run a file that nobody asked for is none. */
static void check_catalogue(struct settings *s, struct buffer *mistakes)
{
    struct error err = {0};

    if (s->catalogue_url == NULL || strcmp(s->catalogue_url, "none:") == 0)
        return;
    if (!db_url_check(s->catalogue_url, &err))
        config_mistake(mistakes, "CATALOGUE_URL: %s, or none:", err.message);
    else if (!is_set("K_SERVICE") || s->allow_ephemeral || !db_url_is_sqlite(s->catalogue_url))
        return;
    else if (is_set("CATALOGUE_URL"))
        config_mistake(mistakes, "CATALOGUE_URL: on Cloud Run files vanish with the instance; use "
                                 "postgresql://, or set ALLOW_EPHEMERAL=1");
    else
        snprintf(s->catalogue_url, strlen(s->catalogue_url) + 1, "none:");
}

/* host:port, as gRPC's clients write it. */
static bool is_host_and_port(const char *address)
{
    const char *colon = strrchr(address, ':');
    int64_t port;

    return colon != NULL && colon != address && strpbrk(address, "/?#@ \t\"<>\\^`{|}") == NULL &&
           string_to_int64(colon + 1, 1, UINT16_MAX, &port);
}

static void check_old_queue(const struct settings *s, struct buffer *mistakes)
{
    CLEANUP_FREE char *address = xasprintf("%s:1", text(s->imagedisk_host));

    if (s->amqp_old_queue && *text(s->source_url) == '\0')
        config_mistake(mistakes, "AMQP_OLD_QUEUE=on needs SOURCE_URL");
    if (s->amqp_old_queue && !is_host_and_port(address))
        config_mistake(mistakes, "IMAGEDISK_HOST: not a host's name");
}

static void check_users(struct settings *s, struct buffer *mistakes)
{
    const char *catalogue = text(s->catalogue_url);
    bool shared = string_starts_with(catalogue, "postgres");
    struct error err = {0};

    if (*text(s->users_url) == '\0') {
        free(s->users_url);
        s->users_url = xstrdup(shared ? catalogue : "sqlite:data/users.db");
    }
    if (!db_url_check(s->users_url, &err))
        config_mistake(mistakes, "USERS_URL: %s", err.message);
    if (is_set("K_SERVICE") && !is_set("PROXIES"))
        s->proxies = 1; /* Google's front end */
    if (!s->users || !is_set("K_SERVICE") || s->allow_ephemeral)
        return;
    if (db_url_is_sqlite(s->users_url))
        config_mistake(mistakes, "USERS_URL: on Cloud Run files vanish with the instance; use "
                                 "postgresql://, or set ALLOW_EPHEMERAL=1");
    if (!is_set("TOKEN_KEY_FILE"))
        config_mistake(mistakes, "TOKEN_KEY_FILE: on Cloud Run each instance would make its own; "
                                 "mount a secret, or set ALLOW_EPHEMERAL=1");
}

static void check_seal(const struct settings *s, struct buffer *mistakes)
{
    if (strcmp(text(s->seal), "always") == 0 && s->seal_keys_file != NULL &&
        *s->seal_keys_file == '\0')
        config_mistake(mistakes, "SEAL=always needs SEAL_KEYS_FILE");
    if (s->users && *text(s->seal_keys_file) != '\0' &&
        strcmp(text(s->catalogue_url), "none:") == 0)
        config_mistake(mistakes, "SEAL_KEYS_FILE with USERS=on needs CATALOGUE_URL: it knows whose "
                                 "picture is whose");
}

/* The older manager's CIPHER_KEY, when none is given. */
static const char known_secret[] =
    "a8b0ac7df167b74f3d51e8e5ea9f668d09a8b33c2373426b9043bc28e95ee857";

/* Its pictures have owners and are looked at, and its clients may ask for encryption. */
static void check_image_manager(const struct settings *s, struct buffer *mistakes)
{
    const char *secret = text(s->image_manager_secret);

    if (*secret != '\0' && !s->image_manager_api)
        config_mistake(mistakes, "IMAGE_MANAGER_SECRET needs IMAGE_MANAGER_API=on");
    /* RFC 7518, 3.2; the older manager's own defaults are shorter, but for its AES key */
    if (*secret != '\0' && (strlen(secret) < SHA256_SIZE || strcmp(secret, known_secret) == 0))
        config_mistake(mistakes,
                       "IMAGE_MANAGER_SECRET: must be random, of %d bytes or more, and not a "
                       "default of the older manager: try openssl rand -hex 32",
                       SHA256_SIZE);
    if (!s->image_manager_api)
        return;
    if (!s->users)
        config_mistake(mistakes, "IMAGE_MANAGER_API=on needs USERS=on");
    if (s->catalogue_url != NULL && strcmp(s->catalogue_url, "none:") == 0)
        config_mistake(mistakes, "IMAGE_MANAGER_API=on needs CATALOGUE_URL");
    if (s->seal_keys_file != NULL && *s->seal_keys_file == '\0')
        config_mistake(mistakes, "IMAGE_MANAGER_API=on needs SEAL_KEYS_FILE");
    if (!s->images)
        config_mistake(mistakes, "IMAGE_MANAGER_API=on needs IMAGES=on");
}

static void check_stages(const struct settings *s, struct buffer *mistakes)
{
    const struct {
        const char *url_name, *url, *address_name, *address;
    } stages[] = {
        {"UPLOADER_URL", text(s->uploader_url), "UPLOADER_ADDR", text(s->uploader_addr)},
        {"NOISE_URL", text(s->noise_url), "NOISE_ADDR", text(s->noise_addr)},
        {"BACKGROUND_URL", text(s->background_url), "BACKGROUND_ADDR", text(s->background_addr)},
        {"CLASSIFIER_URL", text(s->classifier_url), "CLASSIFIER_ADDR", text(s->classifier_addr)},
    };

    for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
        if (*stages[i].url != '\0' && !is_http_url(stages[i].url))
            config_mistake(mistakes, "%s: not an http:// or https:// URL", stages[i].url_name);
        if (*stages[i].address != '\0' && !is_host_and_port(stages[i].address))
            config_mistake(mistakes, "%s: not host:port", stages[i].address_name);
        else if (*stages[i].address != '\0' && is_set(stages[i].url_name))
            config_mistake(mistakes, "%s, %s: set one of them", stages[i].url_name,
                           stages[i].address_name);
    }
}

static void check_ephemeral(const struct settings *s, struct buffer *mistakes)
{
    if (!is_set("K_SERVICE") || s->allow_ephemeral)
        return;
    if (string_starts_with(text(s->storage_url), "file:"))
        config_mistake(mistakes, "STORAGE_URL: on Cloud Run files vanish with the instance; use "
                                 "gs:// or s3://, or set ALLOW_EPHEMERAL=1");
    if (string_starts_with(text(s->events_url), "push+"))
        config_mistake(mistakes, "EVENTS_URL: on Cloud Run the outbox vanishes with the instance; "
                                 "use Pub/Sub, or set ALLOW_EPHEMERAL=1");
    if (*text(s->source_url) != '\0')
        config_mistake(mistakes,
                       "SOURCE_URL: on Cloud Run an instance has no CPU between requests; "
                       "use Pub/Sub, or set ALLOW_EPHEMERAL=1 if its CPU is always on");
}

/* ---- who may call: a mistake here leaves a door open, or shuts it to all ---- */

/* Both or neither: an audience alone is everybody's, since anybody can get a token for it. */
static void check_pair(const char *audience_name, const char *audience, const char *email_name,
                       const char *email, struct buffer *mistakes)
{
    if ((*audience == '\0') != (*email == '\0'))
        config_mistake(mistakes, "%s, %s: set both of them or neither", audience_name, email_name);
    if (audience[strcspn(audience, ", \t")] != '\0')
        config_mistake(mistakes, "%s: one audience, without spaces or commas", audience_name);
}

static bool is_address(const char *s, size_t len)
{
    const char *at = memchr(s, '@', len);

    for (size_t i = 0; i < len; i++)
        if (isspace((unsigned char)s[i]) || s[i] == '*')
            return false;
    return at != NULL && at > s && at + 1 < s + len &&
           memchr(at + 1, '@', (size_t)(s + len - at - 1)) == NULL;
}

static bool are_addresses(const char *list)
{
    size_t count = 0;

    for (const char *p = list + strspn(list, ", "); *p != '\0'; p += strspn(p, ", ")) {
        size_t len = strcspn(p, ", ");
        if (!is_address(p, len))
            return false;
        count++;
        p += len;
    }
    return count > 0;
}

static void check_issuer(const struct settings *s, struct buffer *mistakes)
{
    const char *issuer = text(s->oidc_issuer), *keys = text(s->oidc_jwks_url);

    if (*issuer != '\0' && strcmp(issuer, "accounts.google.com") != 0 &&
        !string_starts_with(issuer, "https://") && !string_starts_with(issuer, "http://"))
        config_mistake(mistakes, "OIDC_ISSUER: not an http(s):// URL");
    if (*keys != '\0' && !url_is_safe(keys))
        config_mistake(mistakes, "OIDC_JWKS_URL: not an https:// URL (http:// on loopback only)");
    if (!is_set("PUSH_AUDIENCE") && !is_set("AUTH_AUDIENCE") &&
        (is_set("OIDC_ISSUER") || is_set("OIDC_JWKS_URL")))
        config_mistake(mistakes, "OIDC_ISSUER, OIDC_JWKS_URL: unused without PUSH_AUDIENCE or "
                                 "AUTH_AUDIENCE: set one");
}

static void check_auth(const struct settings *s, struct buffer *mistakes)
{
    const char *account = text(s->push_service_account), *emails = text(s->auth_emails);

    check_pair("PUSH_AUDIENCE", text(s->push_audience), "PUSH_SERVICE_ACCOUNT", account, mistakes);
    check_pair("AUTH_AUDIENCE", text(s->auth_audience), "AUTH_EMAILS", emails, mistakes);
    if (*account != '\0' && (!is_address(account, strlen(account)) || strchr(account, ',') != NULL))
        config_mistake(mistakes, "PUSH_SERVICE_ACCOUNT: not one e-mail address");
    if (*emails != '\0' && !are_addresses(emails))
        config_mistake(mistakes, "AUTH_EMAILS: not a comma list of e-mail addresses");
    check_issuer(s, mistakes);
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
    bool ok = settings_read(service, ret, mistakes);
    if (ret->workers == 0)
        ret->workers = cpu_count();
    check_storage(ret, mistakes);
    check_store(ret, mistakes);
    check_buckets(ret, mistakes);
    check_s3(ret, mistakes);
    check_emulator("GCS_ENDPOINT", text(ret->gcs_endpoint), "STORAGE_EMULATOR_HOST",
                   &ret->storage_emulator_host, mistakes);
    check_urls(ret, mistakes);
    check_stages(ret, mistakes);
    check_old_queue(ret, mistakes);
    check_pubsub(ret, mistakes);
    check_catalogue(ret, mistakes);
    check_users(ret, mistakes);
    check_seal(ret, mistakes);
    check_image_manager(ret, mistakes);
    check_ephemeral(ret, mistakes);
    check_auth(ret, mistakes);
    cut_slashes(ret->results_base_url);
    return ok && mistakes->len == 0;
}
