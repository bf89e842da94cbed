#include "app/open_store.h"

#include <string.h>

struct store_options storage_options(const struct settings *s)
{
    const char *addressing = s->s3_addressing, *signature = s->s3_signature;

    return (struct store_options){
        .url = s->storage_url,
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
    if (store == NULL)
        error_wrap(err, "STORAGE_URL");
    return store;
}
