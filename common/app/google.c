#include "app/google.h"

struct google_token *google_open(const struct settings *s, struct http_client *client,
                                 const char *scope, struct error *err)
{
    struct google_token *token = google_token_new(
        &(struct google_token_options){
            .client = client,
            .scope = scope,
            .metadata_host = s->gce_metadata_host,
            .credentials_file = s->google_application_credentials,
        },
        err);

    if (token == NULL)
        error_wrap(err, "GOOGLE_APPLICATION_CREDENTIALS");
    return token;
}

bool google_get(void *ctx, int64_t deadline_ms, char out[GOOGLE_TOKEN_MAX], struct error *err)
{
    return google_token_get(ctx, deadline_ms, out, err);
}

void google_expired(void *ctx, const char *text)
{
    google_token_expired(ctx, text);
}
