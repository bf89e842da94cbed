#include "app/open_store.h"

#include "app/google.h"
#include "base/strings.h"
#include "client/http_client.h"

#include <string.h>

/* https://cloud.google.com/storage/docs/oauth-scopes */
static const char scope[] = "https://www.googleapis.com/auth/devstorage.read_write";

_Static_assert((int)GOOGLE_TOKEN_MAX == (int)STORE_TOKEN_MAX, "one size of tokens");

/* An emulator takes no credentials. */
static bool open_gcs(const struct settings *s, struct storage *storage, struct error *err)
{
    if (*s->storage_emulator_host != '\0') {
        storage->options.gcs.endpoint = s->storage_emulator_host;
        return true;
    }
    storage->token = google_open(s, storage->client, scope, err);
    if (storage->token == NULL)
        return false;
    storage->options.gcs.token = google_get;
    storage->options.gcs.token_expired = google_expired;
    storage->options.gcs.token_ctx = storage->token;
    return true;
}

struct store *storage_open(const struct settings *s, const struct clock_cut *cut,
                           struct storage *ret, struct error *err)
{
    *ret = (struct storage){
        .options =
            {
                .url = s->storage_url,
                .cut = cut,
                .s3 =
                    {
                        .endpoint = s->s3_endpoint,
                        .region = s->s3_region,
                        .access_key = s->aws_access_key_id,
                        .secret_key = s->aws_secret_access_key,
                        .session_token = s->aws_session_token,
                        .virtual_addressing = strcmp(s->s3_addressing, "virtual") == 0,
                        .signature = strcmp(s->s3_signature, "v2") == 0 ? STORE_S3_V2 : STORE_S3_V4,
                    },
                .gcs = {.endpoint = s->gcs_endpoint},
            },
    };
    if (!string_starts_with(s->storage_url, "file:")) {
        ret->client =
            http_client_new(&(struct http_client_options){.ca_file = s->ca_file, .cut = cut}, err);
        if (ret->client == NULL) {
            error_wrap(err, "CA_FILE");
            return NULL;
        }
    }
    if (string_starts_with(s->storage_url, "gs://") && !open_gcs(s, ret, err))
        return NULL;
    ret->options.client = ret->client;
    struct store *store = store_open(&ret->options, err);
    if (store == NULL)
        error_wrap(err, "STORAGE_URL");
    return store;
}

void storage_done(struct storage *storage)
{
    google_token_free(storage->token);
    http_client_free(storage->client);
    *storage = (struct storage){0};
}
