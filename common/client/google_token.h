/* OAuth2 access tokens for Google's APIs: from the metadata server of the machine (Cloud Run, GCE),
 * or with a service account's key file.
 * https://cloud.google.com/docs/authentication/rest#metadata-server
 * https://developers.google.com/identity/protocols/oauth2/service-account#httprest
 *
 * A token is cached until shortly before it expires. One caller at a time fetches: while the old
 * token is good the others go on with it, otherwise they wait, each until its own deadline.
 * Thread-safe. */
#pragma once

#include "client/http_client.h"

#define GOOGLE_METADATA_HOST "metadata.google.internal"

struct google_token_options {
    struct http_client *client;   /* borrowed */
    const char *scope;            /* space-separated; borrowed */
    const char *metadata_host;    /* host[:port]; "" for Google's; borrowed */
    const char *credentials_file; /* of a service account; "": the metadata server is asked */
};

/* Reads and checks the key file, sends no request yet. NULL: ERROR_CONFIG, never with key material.
 */
struct bearer *google_token_new(const struct google_token_options *options,
                                struct error *err) NODISCARD;
void google_token_free(struct bearer *bearer);
