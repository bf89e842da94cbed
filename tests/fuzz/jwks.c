/* A key set, as an issuer's server may answer. */
#include "auth/jwks.h"
#include "fuzz.h"

#include <openssl/evp.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jwk_set set;
    struct error err = {0};

    if (!jwk_set_read(bytes_of(data, size), &set, &err)) {
        FUZZ_CHECK_ERROR(&err, ERROR_UNAVAILABLE);
        FUZZ_CHECK(set.count == 0);
        return 0;
    }
    FUZZ_CHECK(size <= JWK_SET_MAX_BYTES && set.count >= 1 && set.count <= JWK_SET_MAX_KEYS);
    for (size_t i = 0; i < set.count; i++) {
        EVP_PKEY *key = jwk_set_find(&set, set.keys[i].kid);
        FUZZ_CHECK(key != NULL && key == set.keys[i].key); /* one of each id */
        FUZZ_CHECK(EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= 2048 &&
                   EVP_PKEY_get_bits(key) <= 8192);
        FUZZ_CHECK(*set.keys[i].kid != '\0');
        EVP_PKEY_free(key);
    }
    jwk_set_done(&set);
    return 0;
}
