/* A signed JSON Web Token in its compact form (RFC 7515, 7519): RS256, as OpenID Connect uses it,
 * EdDSA (RFC 8037), as our own are, and HS256 for who shares a secret with us. Who reads a token
 * says which: whatever the token says of its algorithm can only make it be refused (RFC 8725).
 * Pure; thread-safe.
 *
 * Refusals are ERROR_UNAUTHORIZED with the reason, which never quotes the token. */
#pragma once

#include "base/bytes.h"

#include <jansson.h>

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */

enum { JWT_MAX = 8192, JWT_KID_MAX = 128 };

enum jwt_algorithm { JWT_RS256, JWT_EDDSA, JWT_HS256 };

/* Zero-initialise. */
struct jwt {
    enum jwt_algorithm algorithm;
    struct bytes signed_part; /* header and payload as they were sent; borrowed from the text */
    struct bytes payload;     /* still encoded; borrowed */
    struct buffer signature;
    char kid[JWT_KID_MAX + 1];
};

/* Take the token apart and read its header: that algorithm, a named key (but HS256,
 * which has one), and no extensions that must be understood. What it claims is not verified yet.
 * `ret` is the caller's (jwt_done) either way. */
bool jwt_read(const char *text, enum jwt_algorithm algorithm, struct jwt *ret,
              struct error *err) NODISCARD;
/* Whether the signature is that of the key, which is one for the algorithm. */
bool jwt_verify(const struct jwt *jwt, struct evp_pkey_st *key, struct error *err) NODISCARD;
/* The same by a secret, for JWT_HS256. */
bool jwt_verify_secret(const struct jwt *jwt, const char *secret, struct error *err) NODISCARD;
/* A token of that kind, appended to out. Takes the reference to `claims`. */
bool jwt_sign_secret(json_t *claims, const char *secret, struct buffer *out,
                     struct error *err) NODISCARD;
/* The claims, a JSON object: ask for them after jwt_verify. The caller releases. NULL on failure.
 */
json_t *jwt_claims(const struct jwt *jwt, struct error *err) NODISCARD;
void jwt_done(struct jwt *jwt);
