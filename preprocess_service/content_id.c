#include "content_id.h"

#include <openssl/evp.h>
#include <string.h>

static void free_context(EVP_MD_CTX **ctx)
{
    EVP_MD_CTX_free(*ctx);
}

bool content_id(const struct image_options *options, struct bytes original,
                char out[SHA256_HEX_LEN + 1], struct error *err)
{
    char text[IMAGE_OPTIONS_TEXT_MAX];
    uint8_t digest[SHA256_SIZE];

    image_options_text(options, text);
    CLEANUP(free_context) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(ctx, text, strlen(text)) != 1 ||
        EVP_DigestUpdate(ctx, original.data, original.len) != 1 ||
        EVP_DigestFinal_ex(ctx, digest, NULL) != 1)
        return error_set(err, ERROR_INTERNAL, "SHA-256 failed");
    string_hex(bytes_of(digest, sizeof(digest)), out);
    return true;
}
