#include "auth/jwt.h"

#include "base/json.h"
#include "base/strings.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>
#include <strings.h>

enum { NESTING_MAX = 32 };

static const struct {
    const char *name, *key;
} algorithms[] = {[JWT_RS256] = {"RS256", "RSA"}, [JWT_EDDSA] = {"EdDSA", "ED25519"}};

/* jansson reads recursively, on whoever's stack: no deep nesting. Brackets in strings count too. */
static bool is_shallow(struct bytes json)
{
    size_t open = 0;

    for (size_t i = 0; i < json.len; i++)
        open += json.data[i] == '[' || json.data[i] == '{';
    return open <= NESTING_MAX;
}

/* One part of the token as a JSON object. Without JSON_ALLOW_NUL a NUL is an error, and so is an
 * integer that int64_t does not hold. */
static json_t *decode_object(struct bytes part, const char *what, struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(JWT_MAX);
    struct error why = {0};
    json_t *json = NULL;

    if (base64url_decode(part, &text, &why) && is_shallow(buffer_view(&text)))
        json = json_read(buffer_view(&text), JSON_REJECT_DUPLICATES, &why);
    if (json_is_object(json))
        return json;
    json_decref(json);
    if (why.code == ERROR_OVERLOADED)
        *err = why;
    else
        error_set(err, ERROR_UNAUTHORIZED, "the token's %s is not a JSON object in base64url",
                  what);
    return NULL;
}

static bool check_header(const json_t *header, struct jwt *jwt, struct error *err)
{
    const char *kid = json_string_value(json_object_get(header, "kid"));
    const json_t *type = json_object_get(header, "typ");

    if (!json_is_text(json_object_get(header, "alg"), algorithms[jwt->algorithm].name))
        return error_set(err, ERROR_UNAUTHORIZED, "the token's algorithm is not %s",
                         algorithms[jwt->algorithm].name);
    if (json_object_get(header, "crit") != NULL)
        return error_set(err, ERROR_UNAUTHORIZED, "the token has critical extensions");
    if (type != NULL && (!json_is_string(type) || strcasecmp(json_string_value(type), "JWT") != 0))
        return error_set(err, ERROR_UNAUTHORIZED, "the token's type is not JWT");
    if (kid == NULL || *kid == '\0' || strlen(kid) > JWT_KID_MAX)
        return error_set(err, ERROR_UNAUTHORIZED, "the token does not name its key");
    snprintf(jwt->kid, sizeof(jwt->kid), "%s", kid);
    return true;
}

bool jwt_read(const char *text, enum jwt_algorithm algorithm, struct jwt *ret, struct error *err)
{
    size_t len = strnlen(text, JWT_MAX + 1);
    size_t header_len = strcspn(text, ".");

    *ret = (struct jwt){.algorithm = algorithm, .signature = BUFFER_MAX(JWT_MAX)};
    if (len > JWT_MAX)
        return error_set(err, ERROR_UNAUTHORIZED, "the token is longer than %d bytes", JWT_MAX);
    const char *payload = text[header_len] == '.' ? text + header_len + 1 : "";
    size_t payload_len = strcspn(payload, ".");
    const char *signature = payload[payload_len] == '.' ? payload + payload_len + 1 : "";
    if (header_len == 0 || payload_len == 0 || *signature == '\0' || strchr(signature, '.') != NULL)
        return error_set(err, ERROR_UNAUTHORIZED, "the token has not three parts");
    ret->signed_part = bytes_of(text, header_len + 1 + payload_len);
    ret->payload = bytes_of(payload, payload_len);
    if (!base64url_decode(bytes_from_str(signature), &ret->signature, err))
        return err->code != ERROR_OVERLOADED
                   ? error_set(err, ERROR_UNAUTHORIZED, "the token's signature is not base64url")
                   : false;
    json_t *header = decode_object(bytes_of(text, header_len), "header", err);
    bool ok = header != NULL && check_header(header, ret, err);
    json_decref(header);
    return ok;
}

bool jwt_verify(const struct jwt *jwt, struct evp_pkey_st *key, struct error *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *how = NULL; /* the digest's */
    bool rsa = jwt->algorithm == JWT_RS256;

    if (ctx == NULL)
        return error_oom(err);
    bool ok = EVP_PKEY_is_a(key, algorithms[jwt->algorithm].key) == 1 &&
              EVP_DigestVerifyInit(ctx, &how, rsa ? EVP_sha256() : NULL, NULL, key) == 1 &&
              (!rsa || EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PADDING) == 1) &&
              EVP_DigestVerify(ctx, jwt->signature.data, jwt->signature.len, jwt->signed_part.data,
                               jwt->signed_part.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error(); /* this thread's next TLS call would take it for its own */
    return ok || error_set(err, ERROR_UNAUTHORIZED, "the token's signature is not its key's");
}

json_t *jwt_claims(const struct jwt *jwt, struct error *err)
{
    return decode_object(jwt->payload, "payload", err);
}

void jwt_done(struct jwt *jwt)
{
    buffer_done(&jwt->signature);
}
