/* Google's access token as the settings say, in the form of callbacks: what needs one (a store, a
 * topic) does not know where it comes from. */
#ifndef DARKROOM_APP_GOOGLE_H
#define DARKROOM_APP_GOOGLE_H

#include "app/settings.h"
#include "client/google_token.h"

/* Settings and client must outlive it; google_token_free. NULL: ERROR_CONFIG. */
struct google_token *google_open(const struct settings *settings, struct http_client *client,
                                 const char *scope, struct error *err) NODISCARD;

/* google_token_get and google_token_expired; ctx is the token. */
bool google_get(void *ctx, int64_t deadline_ms, char out[GOOGLE_TOKEN_MAX], struct error *err);
void google_expired(void *ctx, const char *text);

#endif
