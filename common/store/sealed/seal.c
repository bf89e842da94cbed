#include "store/sealed/seal.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

static const char magic[] = "DRSEAL1\n", magic_owned[] = "DRSEAL2\n";

/* Where what is in a header; README.md. */
enum {
    AT_KEY_ID = 8,
    AT_SIZE = AT_KEY_ID + SEAL_KEY_ID_LEN,
    AT_NONCE = AT_SIZE + 8,
    AT_KEY = AT_NONCE + SEAL_NONCE_LEN,
    AT_TAG = AT_KEY + SEAL_KEY_LEN,
};
_Static_assert(AT_TAG + SEAL_TAG_LEN == SEAL_HEADER_LEN, "the header's fields");

size_t seal_start(const struct seal_opened *opened)
{
    return SEAL_HEADER_LEN + (opened->owned ? SEAL_SEALED_OWNER_LEN : 0);
}

uint64_t seal_size(const struct seal_opened *opened)
{
    uint64_t chunks = opened->size == 0 ? 1 : (opened->size - 1) / SEAL_CHUNK_LEN + 1;

    return seal_start(opened) + opened->size + chunks * SEAL_TAG_LEN;
}

/* ---- AES-256-GCM */

static void free_cipher(EVP_CIPHER_CTX **cipher)
{
    EVP_CIPHER_CTX_free(*cipher); /* overwrites the key */
}

/* NULL: out of memory. */
static EVP_CIPHER_CTX *new_cipher(const uint8_t *key, bool encrypt)
{
    EVP_CIPHER_CTX *ret = EVP_CIPHER_CTX_new();

    if (ret != NULL && EVP_CipherInit_ex(ret, EVP_aes_256_gcm(), NULL, key, NULL, encrypt) == 1)
        return ret;
    EVP_CIPHER_CTX_free(ret);
    return NULL;
}

/* `tag` is written or checked, as the cipher encrypts or not; at most a chunk at a time. */
static bool run_cipher(EVP_CIPHER_CTX *cipher, const uint8_t *nonce, struct bytes covered,
                       struct bytes in, uint8_t *out, uint8_t *tag)
{
    bool encrypt = EVP_CIPHER_CTX_is_encrypting(cipher) == 1;
    uint8_t none[1];
    int n = 0;

    return EVP_CipherInit_ex(cipher, NULL, NULL, NULL, nonce, -1) == 1 &&
           (encrypt || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_LEN, tag) == 1) &&
           (covered.len == 0 ||
            EVP_CipherUpdate(cipher, NULL, &n, covered.data, (int)covered.len) == 1) &&
           (in.len == 0 || EVP_CipherUpdate(cipher, out, &n, in.data, (int)in.len) == 1) &&
           EVP_CipherFinal_ex(cipher, none, &n) == 1 &&
           (!encrypt || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_LEN, tag) == 1);
}

/* ---- the header */

static void put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *in)
{
    uint64_t ret = 0;

    for (int i = 0; i < 8; i++)
        ret = ret << 8 | in[i];
    return ret;
}

static bool damaged(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "the sealed object is damaged");
}

/* What the wrapped key's tag covers besides it: the fields in front of it, and the name. */
static bool covered_by_tag(const uint8_t *header, const char *name, struct buffer *out,
                           struct error *err)
{
    return buffer_append(out, header, AT_NONCE, err) && buffer_append_str(out, name, err);
}

static bool wrap(const struct seal_key *key, const char *name, const struct seal_opened *opened,
                 uint8_t *header, struct error *err)
{
    CLEANUP(buffer_done) struct buffer covered = BUFFER_MAX(SIZE_MAX / 2);
    CLEANUP(free_cipher) EVP_CIPHER_CTX *cipher = new_cipher(key->bytes, true);

    memcpy(header, opened->owned ? magic_owned : magic, AT_KEY_ID);
    memcpy(header + AT_KEY_ID, key->id, SEAL_KEY_ID_LEN);
    put_u64(header + AT_SIZE, opened->size);
    return covered_by_tag(header, name, &covered, err) &&
           ((cipher != NULL && RAND_bytes(header + AT_NONCE, SEAL_NONCE_LEN) == 1 &&
             run_cipher(cipher, header + AT_NONCE, buffer_view(&covered),
                        bytes_of(opened->key, SEAL_KEY_LEN), header + AT_KEY, header + AT_TAG)) ||
            error_set(err, ERROR_INTERNAL, "sealing failed"));
}

bool seal_open(const struct seal_keys *keys, const char *name,
               const uint8_t header[SEAL_HEADER_LEN], struct seal_opened *ret, struct error *err)
{
    CLEANUP(buffer_done) struct buffer covered = BUFFER_MAX(SIZE_MAX / 2);
    const struct seal_key *key = seal_keys_find(keys, header + AT_KEY_ID);
    uint8_t tag[SEAL_TAG_LEN];

    ret->owned = memcmp(header, magic_owned, AT_KEY_ID) == 0;
    if (!ret->owned && memcmp(header, magic, AT_KEY_ID) != 0)
        return damaged(err);
    if (key == NULL)
        return error_set(err, ERROR_UNAVAILABLE,
                         "SEAL_KEYS_FILE does not have the key of the sealed object: add it");
    CLEANUP(free_cipher) EVP_CIPHER_CTX *cipher = new_cipher(key->bytes, false);
    memcpy(tag, header + AT_TAG, sizeof(tag));
    ret->size = get_u64(header + AT_SIZE);
    if (cipher == NULL)
        return error_oom(err);
    return covered_by_tag(header, name, &covered, err) &&
           (run_cipher(cipher, header + AT_NONCE, buffer_view(&covered),
                       bytes_of(header + AT_KEY, SEAL_KEY_LEN), ret->key, tag) ||
            damaged(err));
}

void seal_opened_done(struct seal_opened *opened)
{
    OPENSSL_cleanse(opened, sizeof(*opened));
}

bool seal_rewrap(const struct seal_keys *keys, const char *name, uint8_t header[SEAL_HEADER_LEN],
                 bool *changed, struct error *err)
{
    CLEANUP(seal_opened_done) struct seal_opened opened = {0};
    const struct seal_key *newest = seal_keys_newest(keys);

    if (!seal_open(keys, name, header, &opened, err))
        return false;
    *changed = memcmp(header + AT_KEY_ID, newest->id, SEAL_KEY_ID_LEN) != 0;
    return !*changed || wrap(newest, name, &opened, header, err);
}

/* ---- owner and chunks */

enum part { CHUNK, LAST_CHUNK, OWNER };

/* A key encrypts one object, so a chunk's number makes a nonce (STREAM: Hoang, Reyhanitabar,
 * Rogaway, Vizár 2015: the last chunk is marked). */
static void part_nonce(enum part part, uint64_t number, uint8_t nonce[SEAL_NONCE_LEN])
{
    memset(nonce, 0, SEAL_NONCE_LEN);
    nonce[0] = (uint8_t)part;
    put_u64(nonce + SEAL_NONCE_LEN - 8, number);
}

static bool seal_owner(const struct seal_opened *opened, const char *owner, struct buffer *out,
                       struct error *err)
{
    CLEANUP(free_cipher) EVP_CIPHER_CTX *cipher = new_cipher(opened->key, true);
    uint8_t nonce[SEAL_NONCE_LEN], plain[SEAL_OWNER_LEN] = {0}, sealed[SEAL_SEALED_OWNER_LEN];

    if (!opened->owned)
        return true;
    snprintf((char *)plain, sizeof(plain), "%s", owner);
    part_nonce(OWNER, 0, nonce);
    if (cipher == NULL ||
        !run_cipher(cipher, nonce, (struct bytes){0}, bytes_of(plain, sizeof(plain)), sealed,
                    sealed + sizeof(plain)))
        return error_set(err, ERROR_INTERNAL, "sealing failed");
    return buffer_append(out, sealed, sizeof(sealed), err);
}

bool seal_open_owner(const struct seal_opened *opened, struct bytes sealed,
                     char owner[STORE_OWNER_MAX + 1], struct error *err)
{
    CLEANUP(free_cipher) EVP_CIPHER_CTX *cipher = new_cipher(opened->key, false);
    uint8_t nonce[SEAL_NONCE_LEN], plain[SEAL_OWNER_LEN], tag[SEAL_TAG_LEN];

    if (cipher == NULL)
        return error_oom(err);
    if (sealed.len < SEAL_SEALED_OWNER_LEN)
        return damaged(err);
    memcpy(tag, sealed.data + sizeof(plain), sizeof(tag));
    part_nonce(OWNER, 0, nonce);
    if (!run_cipher(cipher, nonce, (struct bytes){0}, bytes_of(sealed.data, sizeof(plain)), plain,
                    tag))
        return damaged(err);
    memcpy(owner, plain, STORE_OWNER_MAX);
    owner[STORE_OWNER_MAX] = '\0';
    return true;
}

/* How long chunk `number` of an object of `size` bytes is; *last: none comes after it. */
static size_t chunk_len(uint64_t size, uint64_t number, bool *last)
{
    uint64_t left = size - number * SEAL_CHUNK_LEN;

    *last = left <= SEAL_CHUNK_LEN;
    return *last ? (size_t)left : SEAL_CHUNK_LEN;
}

static bool seal_chunks(const struct seal_opened *opened, struct bytes data, struct buffer *out,
                        struct error *err)
{
    CLEANUP(free_cipher) EVP_CIPHER_CTX *cipher = new_cipher(opened->key, true);
    uint8_t nonce[SEAL_NONCE_LEN];
    bool last = false;

    for (uint64_t number = 0; !last; number++) {
        size_t len = chunk_len(data.len, number, &last);
        uint8_t *to = out->data + out->len;
        part_nonce(last ? LAST_CHUNK : CHUNK, number, nonce);
        if (cipher == NULL ||
            !run_cipher(cipher, nonce, (struct bytes){0},
                        bytes_of(data.data + number * SEAL_CHUNK_LEN, len), to, to + len))
            return error_set(err, ERROR_INTERNAL, "sealing failed");
        out->len += len + SEAL_TAG_LEN;
    }
    return true;
}

bool seal(const struct seal_keys *keys, const char *name, const char *owner, struct bytes data,
          struct buffer *out, struct error *err)
{
    CLEANUP(seal_opened_done)
    struct seal_opened opened = {.size = data.len, .owned = *owner != '\0'};
    uint8_t header[SEAL_HEADER_LEN];

    if (RAND_priv_bytes(opened.key, sizeof(opened.key)) != 1)
        return error_set(err, ERROR_INTERNAL, "no randomness for a key");
    return wrap(seal_keys_newest(keys), name, &opened, header, err) &&
           buffer_reserve(out, (size_t)seal_size(&opened), err) &&
           buffer_append(out, header, sizeof(header), err) &&
           seal_owner(&opened, owner, out, err) && seal_chunks(&opened, data, out, err);
}

bool seal_open_chunks(const struct seal_opened *opened, uint64_t first, struct bytes sealed,
                      struct buffer *out, struct error *err)
{
    CLEANUP(free_cipher) EVP_CIPHER_CTX *cipher = new_cipher(opened->key, false);
    uint8_t nonce[SEAL_NONCE_LEN], tag[SEAL_TAG_LEN];

    if (cipher == NULL)
        return error_oom(err);
    size_t tags = (sealed.len + SEAL_SEALED_CHUNK_LEN - 1) / SEAL_SEALED_CHUNK_LEN * SEAL_TAG_LEN;
    if (sealed.len < tags)
        return damaged(err);
    if (!buffer_reserve(out, sealed.len - tags, err))
        return false;
    for (uint64_t number = first; sealed.len > 0; number++) {
        bool last;
        if (number > opened->size / SEAL_CHUNK_LEN)
            return damaged(err);
        size_t len = chunk_len(opened->size, number, &last);
        if (sealed.len < len + SEAL_TAG_LEN)
            return damaged(err);
        memcpy(tag, sealed.data + len, sizeof(tag));
        part_nonce(last ? LAST_CHUNK : CHUNK, number, nonce);
        if (!run_cipher(cipher, nonce, (struct bytes){0}, bytes_of(sealed.data, len),
                        out->data + out->len, tag))
            return damaged(err);
        out->len += len;
        sealed = bytes_of(sealed.data + len + SEAL_TAG_LEN, sealed.len - len - SEAL_TAG_LEN);
    }
    return true;
}
