/* OAuth2 access tokens for Google's APIs: from the metadata server of the machine (Cloud Run, GCE),
 * or with a service account's key file.
 * https://cloud.google.com/docs/authentication/rest#metadata-server
 * https://developers.google.com/identity/protocols/oauth2/service-account#httprest
 *
 * A token is cached until shortly before it expires. One caller at a time fetches: while the old
 * token is good the others go on with it, otherwise they wait, each until its own deadline.
 * Thread-safe. */
#ifndef DARKROOM_CLIENT_GOOGLE_TOKEN_H
#define DARKROOM_CLIENT_GOOGLE_TOKEN_H

#include "client/http_client.h"

enum { GOOGLE_TOKEN_MAX = 4096 };
#define GOOGLE_METADATA_HOST "metadata.google.internal"

struct google_token_options {
    struct http_client *client;   /* borrowed */
    const char *scope;            /* space-separated; borrowed */
    const char *metadata_host;    /* host[:port]; "" for Google's; borrowed */
    const char *credentials_file; /* of a service account; "": the metadata server is asked */
};

struct google_token;

/* Reads and checks the key file, asks nobody yet. NULL: ERROR_CONFIG, never with key material. */
struct google_token *google_token_new(const struct google_token_options *options,
                                      struct error *err) NODISCARD;
void google_token_free(struct google_token *token);

/* ERROR_UNAVAILABLE or ERROR_DEADLINE. */
bool google_token_get(struct google_token *token, int64_t deadline_ms, char out[GOOGLE_TOKEN_MAX],
                      struct error *err) NODISCARD;
/* A server answered 401 to this one: the next caller fetches a new one. */
void google_token_expired(struct google_token *token, const char *text);

#endif
