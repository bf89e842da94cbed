/* Tokens and key sets for the tests, by OpenSSL. */
#pragma once

#include "base/strings.h"
#include "base/xmalloc.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

#define HEADER "{\"alg\":\"RS256\",\"kid\":\"k\",\"typ\":\"JWT\"}"

/* The caller frees. */
static inline char *to_base64url(const void *data, size_t len)
{
    char *out = malloc(len / 3 * 4 + 5);

    int n = EVP_EncodeBlock((unsigned char *)out, data, (int)len);
    while (n > 0 && out[n - 1] == '=')
        out[--n] = '\0';
    for (char *p = out; *p != '\0'; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    return out;
}

/* A signed token; NULL only when OpenSSL fails. */
static inline char *make_token(const char *header, const char *claims, EVP_PKEY *key)
{
    CLEANUP_FREE char *first = to_base64url(header, strlen(header));
    CLEANUP_FREE char *second = to_base64url(claims, strlen(claims));
    CLEANUP_FREE char *text = xasprintf("%s.%s", first, second);
    unsigned char signature[1024];
    size_t len = sizeof(signature);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    bool ok = EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, signature, &len, (const unsigned char *)text, strlen(text)) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return NULL;
    CLEANUP_FREE char *third = to_base64url(signature, len);
    return xasprintf("%s.%s", text, third);
}

/* One key of a key set; `more`: further members, each with its comma. */
static inline char *make_jwk(const char *kid, EVP_PKEY *key, const char *more)
{
    BIGNUM *n = NULL;
    unsigned char bytes[1024];

    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) != 1)
        return NULL;
    int len = BN_bn2bin(n, bytes);
    BN_free(n);
    CLEANUP_FREE char *modulus = to_base64url(bytes, (size_t)len);
    return xasprintf("{\"kty\":\"RSA\",\"kid\":\"%s\",\"n\":\"%s\",\"e\":\"AQAB\"%s}", kid, modulus,
                     more);
}
