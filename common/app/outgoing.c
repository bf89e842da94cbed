#include "app/outgoing.h"

#include "base/strings.h"
#include "base/xmalloc.h"
#include "client/google_token.h"

#include <string.h>

enum { PROJECT_WAIT_MS = 5000, PROJECT_MAX = 256 };

/* https://cloud.google.com/storage/docs/oauth-scopes,
 * https://cloud.google.com/pubsub/docs/access-control */
#define STORAGE_SCOPE "https://www.googleapis.com/auth/devstorage.read_write"
#define PUBSUB_SCOPE "https://www.googleapis.com/auth/pubsub"

/* What the token must open; NULL: none is needed. An emulator takes no credentials. */
static const char *scope_of(const struct settings *s)
{
    bool storage = string_starts_with(s->storage_url, "gs://") && *s->storage_emulator_host == '\0';
    bool topic = ((s->events_url != NULL && string_starts_with(s->events_url, "pubsub://")) ||
                  (s->class_topic != NULL && *s->class_topic != '\0')) &&
                 *s->pubsub_emulator_host == '\0';

    if (storage)
        return topic ? STORAGE_SCOPE " " PUBSUB_SCOPE : STORAGE_SCOPE;
    return topic ? PUBSUB_SCOPE : NULL;
}

bool outgoing_open(const struct settings *s, const struct clock_cut *cut, struct outgoing *ret,
                   struct error *err)
{
    const char *scope = scope_of(s);

    *ret = (struct outgoing){.cut = cut};
    ret->client =
        http_client_new(&(struct http_client_options){.ca_file = s->ca_file, .cut = cut}, err);
    if (ret->client == NULL)
        return error_wrap(err, "CA_FILE");
    if (scope == NULL)
        return true;
    ret->google = google_token_new(
        &(struct google_token_options){
            .client = ret->client,
            .scope = scope,
            .metadata_host = s->gce_metadata_host,
            .credentials_file = s->google_application_credentials,
        },
        err);
    return ret->google != NULL || error_wrap(err, "GOOGLE_APPLICATION_CREDENTIALS");
}

void outgoing_done(struct outgoing *outgoing)
{
    google_token_free(outgoing->google);
    http_client_free(outgoing->client);
    *outgoing = (struct outgoing){0};
}

/* ---- the store */

struct store_options storage_options(const struct settings *s)
{
    const char *addressing = s->s3_addressing, *signature = s->s3_signature;

    return (struct store_options){
        .url = s->storage_url,
        .seal_keys_file = s->seal_keys_file,
        .s3 =
            {
                .endpoint = s->s3_endpoint,
                .region = s->s3_region,
                .access_key = s->aws_access_key_id,
                .secret_key = s->aws_secret_access_key,
                .session_token = s->aws_session_token,
                .virtual_addressing = addressing != NULL && strcmp(addressing, "virtual") == 0,
                .signature =
                    signature != NULL && strcmp(signature, "v2") == 0 ? STORE_S3_V2 : STORE_S3_V4,
            },
        .gcs.endpoint = s->gcs_endpoint,
    };
}

struct store *storage_open(const struct settings *s, const struct outgoing *outgoing,
                           struct store_options *ret, struct error *err)
{
    *ret = storage_options(s);
    ret->client = outgoing->client;
    ret->cut = outgoing->cut;
    ret->gcs.bearer = outgoing->google;
    if (*s->storage_emulator_host != '\0') {
        ret->gcs.endpoint = s->storage_emulator_host;
        ret->gcs.bearer = NULL;
    }
    struct store *store = store_open(ret, err);
    if (store == NULL && !string_starts_with(err->message, "SEAL_KEYS_FILE"))
        error_wrap(err, "STORAGE_URL");
    return store;
}

/* ---- Pub/Sub topics */

/* https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys */
static bool ask_project(const struct settings *s, struct http_client *client,
                        struct buffer *project, struct error *err)
{
    static const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    CLEANUP(http_reply_done) struct http_reply reply = {0};
    const char *host = *s->gce_metadata_host != '\0' ? s->gce_metadata_host : GOOGLE_METADATA_HOST;
    CLEANUP_FREE char *url = xasprintf("http://%s/computeMetadata/v1/project/project-id", host);
    char flavor[16];

    if (!http_client_call(client,
                          &(struct http_call){
                              .method = "GET",
                              .url = url,
                              .headers = headers,
                              .deadline_ms = clock_monotonic_ms() + PROJECT_WAIT_MS,
                              .max_reply_bytes = PROJECT_MAX,
                          },
                          &reply, err))
        return false;
    if (reply.status != 200 ||
        !http_reply_header(&reply, "metadata-flavor", flavor, sizeof(flavor)))
        return error_set(err, ERROR_CONFIG, "%s is not a metadata server: it returned %ld", host,
                         reply.status);
    const struct bytes id = buffer_view(&reply.body);
    for (size_t i = 0; i < id.len; i++)
        if (id.data[i] == '\0' ||
            strchr("abcdefghijklmnopqrstuvwxyz0123456789-.:", id.data[i]) == NULL)
            return error_set(err, ERROR_CONFIG, "%s names no project", host);
    return id.len > 0 ? buffer_append(project, id.data, id.len, err)
                      : error_set(err, ERROR_CONFIG, "%s names no project", host);
}

/* "T" and "projects/P/topics/T" are both the topic. */
static bool resolve_name(const struct settings *s, const char *name, struct topic *topic,
                         struct error *err)
{
    CLEANUP(buffer_done) struct buffer project = BUFFER_MAX(PROJECT_MAX);

    if (string_starts_with(name, "projects/")) {
        topic->name = xstrdup(name);
        return true;
    }
    if (*s->google_cloud_project != '\0') {
        if (!buffer_append_str(&project, s->google_cloud_project, err))
            return false;
    } else if (!ask_project(s, topic->options.client, &project, err)) {
        err->code = ERROR_CONFIG;
        return error_wrap(err,
                          "the project of topic %.100s is not known: set GOOGLE_CLOUD_PROJECT; "
                          "the metadata server gave none",
                          name);
    }
    topic->name =
        xasprintf("projects/%.*s/topics/%s", (int)project.len, (const char *)project.data, name);
    return true;
}

bool topic_open(const struct settings *s, const char *name, const struct outgoing *outgoing,
                struct topic *ret, struct error *err)
{
    const bool emulator = *s->pubsub_emulator_host != '\0';

    *ret = (struct topic){
        .options =
            {
                .endpoint = emulator ? s->pubsub_emulator_host : s->pubsub_endpoint,
                .client = outgoing->client,
                .cut = outgoing->cut,
                .bearer = emulator ? NULL : outgoing->google,
            },
    };
    if (!resolve_name(s, name, ret, err))
        return false;
    ret->options.topic = ret->name;
    return true;
}

void topic_done(struct topic *topic)
{
    free(topic->name);
    *topic = (struct topic){0};
}
