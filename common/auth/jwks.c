#include "auth/jwks.h"

#include "base/json.h"
#include "base/strings.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <string.h>

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8192,
    EXPONENT_BITS_MAX = 64, /* as OpenSSL has it for long keys */
};

static void free_number(BIGNUM **n)
{
    BN_free(*n);
}

static bool lists(const json_t *array, const char *expected)
{
    size_t i;
    json_t *value;

    json_array_foreach(array, i, value)
    {
        if (json_is_text(value, expected))
            return true;
    }
    return false;
}

static bool is_for_rs256(const json_t *jwk)
{
    const json_t *use = json_object_get(jwk, "use");
    const json_t *algorithm = json_object_get(jwk, "alg");
    const json_t *operations = json_object_get(jwk, "key_ops");
    const char *kid = json_string_value(json_object_get(jwk, "kid"));

    return json_is_text(json_object_get(jwk, "kty"), "RSA") &&
           (use == NULL || json_is_text(use, "sig")) &&
           (algorithm == NULL || json_is_text(algorithm, "RS256")) &&
           (operations == NULL || lists(operations, "verify")) && kid != NULL && *kid != '\0' &&
           strlen(kid) <= JWT_KID_MAX;
}

/* NULL for what is none; *err is set only when there was no memory for it. */
static BIGNUM *read_number(const json_t *jwk, const char *name, int bits_max, struct error *err)
{
    struct error why = {0};
    CLEANUP(buffer_done) struct buffer n = BUFFER_MAX((size_t)bits_max / 8 + 8);
    const char *text = json_string_value(json_object_get(jwk, name));

    bool ok = text != NULL && base64url_decode(bytes_from_str(text), &n, &why) && n.len > 0;
    if (why.code == ERROR_OVERLOADED)
        *err = why;
    if (!ok)
        return NULL;
    return BN_bin2bn(n.data, (int)n.len, NULL);
}

static EVP_PKEY *make_key(const BIGNUM *n, const BIGNUM *e)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    bool ok = builder != NULL && ctx != NULL &&
              OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
              OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
              (params = OSSL_PARAM_BLD_to_param(builder)) != NULL &&
              EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1;
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_BLD_free(builder);
    return ok ? key : NULL;
}

/* NULL unless it is a key that a signature can be believed of: with the exponent 1 anybody could
 * make one. */
static EVP_PKEY *read_key(const json_t *jwk, struct error *err)
{
    CLEANUP(free_number) BIGNUM *n = read_number(jwk, "n", RSA_BITS_MAX, err);
    CLEANUP(free_number) BIGNUM *e = read_number(jwk, "e", EXPONENT_BITS_MAX, err);

    if (n == NULL || e == NULL || BN_num_bits(n) < RSA_BITS_MIN || BN_num_bits(n) > RSA_BITS_MAX ||
        !BN_is_odd(n) || !BN_is_odd(e) || BN_is_one(e) || BN_num_bits(e) > EXPONENT_BITS_MAX)
        return NULL;
    return make_key(n, e);
}

/* Ids that occur twice name no key. */
static bool is_ambiguous(const json_t *keys, size_t index)
{
    const char *kid = json_string_value(json_object_get(json_array_get(keys, index), "kid"));
    size_t i;
    json_t *other;

    json_array_foreach(keys, i, other)
    {
        if (i != index && is_for_rs256(other) && json_is_text(json_object_get(other, "kid"), kid))
            return true;
    }
    return false;
}

/* All of them that can be used, or *err: keys that there was no memory for must not look like keys
 * that the issuer has not. */
static void read_keys(const json_t *keys, struct jwk_set *ret, struct error *err)
{
    size_t i;
    json_t *jwk;

    json_array_foreach(keys, i, jwk)
    {
        if (!is_for_rs256(jwk) || is_ambiguous(keys, i))
            continue;
        struct jwk *slot = &ret->keys[ret->count];
        slot->key = read_key(jwk, err);
        if (slot->key == NULL)
            continue;
        snprintf(slot->kid, sizeof(slot->kid), "%s",
                 json_string_value(json_object_get(jwk, "kid")));
        ret->count++;
    }
    ERR_clear_error();
}

bool jwk_set_read(struct bytes json, struct jwk_set *ret, struct error *err)
{
    struct error why = {0};
    json_t *root = NULL;

    *ret = (struct jwk_set){0};
    if (json.len <= JWK_SET_MAX_BYTES)
        root = json_read(json, JSON_REJECT_DUPLICATES, &why);
    const json_t *keys = json_object_get(root, "keys");
    bool bounded = json_is_array(keys) && json_array_size(keys) <= JWK_SET_MAX_KEYS;
    if (bounded)
        read_keys(keys, ret, &why);
    json_decref(root);
    if (why.code == ERROR_OVERLOADED) {
        jwk_set_done(ret);
        *err = why;
        return false;
    }
    if (!bounded)
        return error_set(err, ERROR_UNAVAILABLE, "not a key set of at most %d keys",
                         JWK_SET_MAX_KEYS);
    return ret->count > 0 ||
           error_set(err, ERROR_UNAVAILABLE, "a key set without a usable RSA key");
}

struct evp_pkey_st *jwk_set_find(const struct jwk_set *set, const char *kid)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->keys[i].kid, kid) == 0 && EVP_PKEY_up_ref(set->keys[i].key) == 1)
            return set->keys[i].key;
    return NULL;
}

void jwk_set_done(struct jwk_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        EVP_PKEY_free(set->keys[i].key);
    *set = (struct jwk_set){0};
}
