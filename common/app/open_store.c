#include "app/open_store.h"

#include <string.h>

struct store *storage_open(const struct settings *s, const struct outgoing *outgoing,
                           struct store_options *ret, struct error *err)
{
    const bool emulator = *s->storage_emulator_host != '\0';

    *ret = (struct store_options){
        .url = s->storage_url,
        .client = outgoing->client,
        .cut = outgoing->cut,
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
        .gcs =
            {
                .endpoint = emulator ? s->storage_emulator_host : s->gcs_endpoint,
                .bearer = emulator ? NULL : outgoing->google,
            },
    };
    struct store *store = store_open(ret, err);
    if (store == NULL)
        error_wrap(err, "STORAGE_URL");
    return store;
}
