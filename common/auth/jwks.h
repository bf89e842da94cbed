/* A set of public keys as an issuer publishes it (RFC 7517). Immutable once read, so it may be used
 * from many threads. */
#pragma once

#include "auth/jwt.h"

enum { JWK_SET_MAX_BYTES = 64 * 1024, JWK_SET_MAX_KEYS = 32 };

/* Zero-initialise. */
struct jwk_set {
    size_t count;
    struct jwk {
        char kid[JWT_KID_MAX + 1];
        struct evp_pkey_st *key;
    } keys[JWK_SET_MAX_KEYS];
};

/* Read the keys that can sign with RS256: RSA of 2048 to 8192 bits, for signatures, with an id of
 * their own. Others are passed over; two with the same id are both. ERROR_UNAVAILABLE if the
 * document is not a key set, has more than JWK_SET_MAX_KEYS, or no such key. `ret` is empty then.
 */
bool jwk_set_read(struct bytes json, struct jwk_set *ret, struct error *err) NODISCARD;
/* A reference to the key (EVP_PKEY_free); NULL when there is none of that id. */
struct evp_pkey_st *jwk_set_find(const struct jwk_set *set, const char *kid);
void jwk_set_done(struct jwk_set *set);
