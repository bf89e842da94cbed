#include "auth/oidc.h"

#include "auth/jwks_cache.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <openssl/evp.h>
#include <string.h>

#define LATEST_S 253402300799LL /* the end of the year 9999: what is later is nonsense */
enum { LEEWAY_S = 60 };

struct oidc {
    struct jwks *jwks;
    char *issuer;
};

struct oidc *oidc_new(const struct oidc_options *options)
{
    struct oidc *o = xcalloc(1, sizeof(*o));

    o->issuer = xstrdup(options->issuer);
    o->jwks = jwks_new(&(struct jwks_options){.client = options->client, .url = options->jwks_url});
    return o;
}

void oidc_free(struct oidc *o)
{
    if (o == NULL)
        return;
    jwks_free(o->jwks);
    free(o->issuer);
    free(o);
}

/* ---- claims ---- */

static bool check_issuer(const json_t *claims, const char *issuer, struct error *err)
{
    const json_t *iss = json_object_get(claims, "iss");

    return json_is_text(iss, issuer) ||
           (strcmp(issuer, OIDC_GOOGLE_ISSUER) == 0 &&
            json_is_text(iss, OIDC_GOOGLE_ISSUER + strlen("https://"))) ||
           error_set(err, ERROR_UNAUTHORIZED, "the token is another issuer's");
}

static bool check_audience(const json_t *claims, const char *audience, struct error *err)
{
    const json_t *aud = json_object_get(claims, "aud");
    bool ours = json_is_text(aud, audience);
    size_t i;
    json_t *one;

    json_array_foreach(aud, i, one)
    {
        if (!json_is_string(one))
            return error_set(err, ERROR_UNAUTHORIZED, "the token's audience is not a string");
        ours = ours || json_is_text(one, audience);
    }
    return ours || error_set(err, ERROR_UNAUTHORIZED, "the token is for another audience");
}

static bool is_time(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           json_integer_value(value) <= LATEST_S;
}

static bool check_times(const json_t *claims, int64_t now_s, struct error *err)
{
    const json_t *exp = json_object_get(claims, "exp");
    const json_t *iat = json_object_get(claims, "iat");
    const json_t *nbf = json_object_get(claims, "nbf");

    if (!is_time(exp) || !is_time(iat) || (nbf != NULL && !is_time(nbf)))
        return error_set(err, ERROR_UNAUTHORIZED, "the token's times are missing or not times");
    if (now_s >= json_integer_value(exp) + LEEWAY_S)
        return error_set(err, ERROR_UNAUTHORIZED, "the token has expired");
    if (json_integer_value(iat) > now_s + LEEWAY_S ||
        (nbf != NULL && json_integer_value(nbf) > now_s + LEEWAY_S))
        return error_set(err, ERROR_UNAUTHORIZED, "the token is not valid yet");
    return true;
}

/* The boolean true: what Google documents for tokens. (Its tokeninfo endpoint says "true", but does
 * so of every value.) */
static bool check_account(const json_t *claims, const char *emails, struct error *err)
{
    const char *email = json_string_value(json_object_get(claims, "email"));

    if (!json_is_true(json_object_get(claims, "email_verified")))
        return error_set(err, ERROR_FORBIDDEN, "the token's e-mail address is not verified");
    return (email != NULL && strlen(email) <= OIDC_EMAIL_MAX &&
            string_list_has(emails, email, false)) ||
           error_set(err, ERROR_FORBIDDEN, "the token is of an account that may not do this");
}

bool oidc_check_claims(const json_t *claims, const char *issuer, const struct oidc_guests *guests,
                       int64_t now_s, struct error *err)
{
    return check_issuer(claims, issuer, err) && check_audience(claims, guests->audience, err) &&
           check_times(claims, now_s, err) && check_account(claims, guests->emails, err);
}

/* ---- tokens ---- */

bool oidc_verify(struct oidc *o, const char *token, const struct oidc_guests *guests,
                 int64_t deadline_ms, char email[OIDC_EMAIL_MAX + 1], struct error *err)
{
    CLEANUP(jwt_done) struct jwt jwt = {0};

    if (!jwt_read(token, JWT_RS256, &jwt, err))
        return false;
    EVP_PKEY *key = jwks_find(o->jwks, jwt.kid, deadline_ms, err);
    json_t *claims = key != NULL && jwt_verify(&jwt, key, err) ? jwt_claims(&jwt, err) : NULL;
    EVP_PKEY_free(key);
    bool ok =
        claims != NULL && oidc_check_claims(claims, o->issuer, guests, clock_wall_ms() / 1000, err);
    if (ok)
        snprintf(email, OIDC_EMAIL_MAX + 1, "%s",
                 json_string_value(json_object_get(claims, "email")));
    json_decref(claims);
    return ok;
}
