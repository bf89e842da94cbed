/* A token: its text, or, when the input begins with '{', the JSON of its header and (in the next
 * line) of its claims, which are encoded here. */
#include "auth/jwks.h"
#include "auth/oidc.h"
#include "base/strings.h"
#include "fuzz.h"

#include <openssl/evp.h>

static const int64_t now_s = 1800000000;

/* A key that signed none of this. Its modulus: 2,048 bits, odd. */
static EVP_PKEY *foreign_key(void)
{
    static struct jwk_set set;
    struct error err = {0};

    if (set.count == 0) {
        char n[343], json[512];
        memset(n, 'x', 342);
        n[341] = 'Q';
        n[342] = '\0';
        snprintf(json, sizeof(json),
                 "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"k\",\"e\":\"AQAB\","
                 "\"n\":\"%s\"}]}",
                 n);
        FUZZ_CHECK(jwk_set_read(bytes_from_str(json), &set, &err));
    }
    return set.keys[0].key;
}

static char *encode(struct bytes in)
{
    CLEANUP(buffer_done) struct buffer out = BUFFER_MAX(65536);
    struct bytes header = fuzz_until(&in, "\n");
    struct error err;

    FUZZ_CHECK(header.len < 16384 && in.len < 16384);
    FUZZ_CHECK(base64url_encode(header, &out, &err) && buffer_append(&out, ".", 1, &err) &&
               base64url_encode(in, &out, &err) && buffer_append_str(&out, ".AAAA", &err));
    return fuzz_text(buffer_view(&out));
}

static void check_claims(const struct jwt *jwt)
{
    static const struct oidc_guests guests = {.audience = "https://a.example",
                                              .emails = "a@example.com, b@example.com"};
    struct error err = {0};
    json_t *claims = jwt_claims(jwt, &err);

    if (claims == NULL) {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED);
        return;
    }
    FUZZ_CHECK(json_is_object(claims));
    if (oidc_check_claims(claims, OIDC_GOOGLE_ISSUER, &guests, now_s, &err)) {
        const char *email = json_string_value(json_object_get(claims, "email"));
        FUZZ_CHECK(email != NULL && string_ends_with(email, "@example.com") && email[1] == '@');
        FUZZ_CHECK(json_integer_value(json_object_get(claims, "exp")) > now_s - 61);
        FUZZ_CHECK(json_integer_value(json_object_get(claims, "iat")) <= now_s + 60);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED, ERROR_FORBIDDEN);
    }
    json_decref(claims);
}

/* Every value has one spelling. */
static void check_base64url(const char *text)
{
    CLEANUP(buffer_done) struct buffer plain = BUFFER_MAX(65536);
    CLEANUP(buffer_done) struct buffer again = BUFFER_MAX(131072);
    struct error err;

    if (!base64url_decode(bytes_from_str(text), &plain, &err))
        return;
    FUZZ_CHECK(base64url_encode(buffer_view(&plain), &again, &err));
    FUZZ_CHECK(bytes_equal(buffer_view(&again), bytes_from_str(text)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool encoded = size == 0 || *data != '{';
    CLEANUP(jwt_done) struct jwt jwt = {0};
    struct error err = {0};

    if (!encoded && size >= 16384)
        return 0;
    CLEANUP_FREE char *text =
        encoded ? fuzz_text(bytes_of(data, size)) : encode(bytes_of(data, size));
    if (jwt_read(text, JWT_RS256, &jwt, &err)) {
        FUZZ_CHECK(strlen(text) <= JWT_MAX && *jwt.kid != '\0');
        FUZZ_CHECK(jwt.signed_part.data == (const uint8_t *)text &&
                   jwt.signed_part.len < strlen(text));
        FUZZ_CHECK(!jwt_verify(&jwt, foreign_key(), &err));
        FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED);
        check_claims(&jwt);
    } else {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAUTHORIZED);
    }
    if (encoded && strlen(text) < 16384)
        check_base64url(text);
    return 0;
}
