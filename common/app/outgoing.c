#include "app/outgoing.h"

#include "base/strings.h"
#include "client/google_token.h"

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
