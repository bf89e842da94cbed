#include "client/google_key.h"

#include "base/json.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

enum { LIFETIME_S = 3600, FILE_MAX = 65536, ASSERTION_MAX = 8192 };

struct google_key {
    char *email;
    char *key_id; /* "" if the file names none */
    char *token_uri;
    EVP_PKEY *private_key;
};

/* A key with a passphrase is none for a service: OpenSSL would ask at the terminal. */
static int no_passphrase(char *out, int size, int writing, void *ctx)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static EVP_PKEY *parse_private_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;

    BIO_free(bio);
    if (key != NULL && !EVP_PKEY_is_a(key, "RSA")) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static bool fill(struct google_key *key, const json_t *json, struct error *err)
{
    const char *email = json_string_value(json_object_get(json, "client_email"));
    const char *pem = json_string_value(json_object_get(json, "private_key"));
    const char *id = json_string_value(json_object_get(json, "private_key_id"));
    const char *uri = json_string_value(json_object_get(json, "token_uri"));

    if (email == NULL || pem == NULL || uri == NULL)
        return error_set(err, ERROR_CONFIG,
                         "not a service account's key: client_email, private_key or token_uri is "
                         "missing");
    if (!url_is_safe(uri))
        return error_set(err, ERROR_CONFIG, "its token_uri is not https");
    key->private_key = parse_private_key(pem);
    if (key->private_key == NULL)
        return error_set(err, ERROR_CONFIG, "its private_key must be an RSA key in PEM");
    key->email = xstrdup(email);
    key->key_id = xstrdup(id != NULL ? id : "");
    key->token_uri = xstrdup(uri);
    return true;
}

static bool read_file(const char *path, struct buffer *out, struct error *err)
{
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return error_set(err, ERROR_CONFIG, "%s: %s", path, strerrordesc_np(errno));
    bool ok = buffer_reserve(out, FILE_MAX, err);
    if (ok)
        out->len = fread(out->data, 1, FILE_MAX, file);
    fclose(file);
    return ok;
}

struct google_key *google_key_read(const char *path, struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(FILE_MAX);

    if (!read_file(path, &text, err))
        return NULL;
    struct google_key *key = xcalloc(1, sizeof(*key));
    struct error malformed;
    json_t *json = json_read(buffer_view(&text), 0, &malformed);
    bool ok = fill(key, json, err);
    json_decref(json);
    OPENSSL_cleanse(text.data, text.len);
    if (ok)
        return key;
    google_key_free(key);
    return NULL;
}

void google_key_free(struct google_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->private_key);
    free(key->email);
    free(key->key_id);
    free(key->token_uri);
    free(key);
}

const char *google_key_token_uri(const struct google_key *key)
{
    return key->token_uri;
}

static bool append_json(json_t *json, struct buffer *out, struct error *err)
{
    CLEANUP_FREE char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    return text != NULL ? base64url_encode(bytes_from_str(text), out, err) : error_oom(err);
}

static bool append_signature(const struct google_key *key, struct bytes text, struct buffer *out,
                             struct error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char signature[1024]; /* RSA of up to 8,192 bits */
    size_t len = sizeof(signature);

    bool ok = context != NULL && EVP_PKEY_get_size(key->private_key) <= (int)sizeof(signature) &&
              EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key->private_key) == 1 &&
              EVP_DigestSign(context, signature, &len, text.data, text.len) == 1;
    EVP_MD_CTX_free(context);
    return ok ? base64url_encode(bytes_of(signature, len), out, err)
              : error_set(err, ERROR_INTERNAL, "the service account's key cannot sign");
}

bool google_key_assertion(const struct google_key *key, const char *scope, int64_t now_s,
                          struct buffer *out, struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(ASSERTION_MAX);
    const json_int_t from_s = now_s, until_s = now_s + LIFETIME_S;
    json_t *header = json_pack("{s:s, s:s, s:s}", "alg", "RS256", "typ", "JWT", "kid", key->key_id);

    if (!append_json(header, &text, err) || !buffer_append(&text, ".", 1, err))
        return false;
    json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:I}", "iss", key->email, "scope", scope,
                               "aud", key->token_uri, "iat", from_s, "exp", until_s);
    return append_json(claims, &text, err) && buffer_append(out, text.data, text.len, err) &&
           buffer_append(out, ".", 1, err) && append_signature(key, buffer_view(&text), out, err);
}
