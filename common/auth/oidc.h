/* Who sent a request: OpenID Connect tokens (RS256) of one issuer, as Google's. Thread-safe. */
#pragma once

#include "base/bytes.h"

#include <jansson.h>

struct oidc;
struct http_client;

enum { OIDC_EMAIL_MAX = 254 }; /* RFC 5321, 4.5.3.1.3, without the brackets */

#define OIDC_GOOGLE_ISSUER "https://accounts.google.com"

struct oidc_options {
    struct http_client *client; /* borrowed */
    /* what `iss` must be; Google's may come without "https://", as Google documents. Copied. */
    const char *issuer;
    const char *jwks_url; /* copied */
};

/* Who may come: borrowed strings. */
struct oidc_guests {
    const char *audience; /* one of the token's `aud` */
    const char *emails;   /* comma list, spaces around entries; compared byte for byte */
};

struct oidc *oidc_new(const struct oidc_options *options) NODISCARD;
/* No other thread may be using it. */
void oidc_free(struct oidc *oidc);

/* Whether the token is the issuer's, for the audience, valid now (with 60 s of leeway), and of one
 * of the accounts. ERROR_UNAUTHORIZED: not a valid token; ERROR_FORBIDDEN: somebody else's, or its
 * address is not verified; otherwise the keys cannot be had now (jwks_find). The message never
 * quotes the token, but is for the log rather than for who sent it. Blocks until the deadline, for
 * at most 5 s, and seldom. `email`: whose it is. */
bool oidc_verify(struct oidc *oidc, const char *token, const struct oidc_guests *guests,
                 int64_t deadline_ms, char email[OIDC_EMAIL_MAX + 1], struct error *err) NODISCARD;

/* What oidc_verify asks of the claims of a token whose signature is good, at a time in seconds
 * since 1970. */
bool oidc_check_claims(const json_t *claims, const char *issuer, const struct oidc_guests *guests,
                       int64_t now_s, struct error *err) NODISCARD;
