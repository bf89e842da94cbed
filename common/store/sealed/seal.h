/* The sealed form of an object: its bytes in chunks, encrypted with a key of its own, which is
 * encrypted with an operator's key. README.md describes the format. Pure, and thread-safe. */
#pragma once

#include "base/bytes.h"
#include "store/object.h"

/* The operator's keys, of SEAL_KEYS_FILE: a base64 key of 32 bytes a line, oldest first. */
enum { SEAL_KEY_ID_LEN = 8, SEAL_KEY_LEN = 32 /* AES-256 */ };

struct seal_key {
    uint8_t id[SEAL_KEY_ID_LEN]; /* the first bytes of the key's SHA-256 */
    uint8_t bytes[SEAL_KEY_LEN];
};

struct seal_keys;
/* From then on this process leaves no core dump. NULL: ERROR_CONFIG. */
struct seal_keys *seal_keys_load(const char *path, struct error *err) NODISCARD;
/* NULL is allowed. The keys are overwritten. */
void seal_keys_free(struct seal_keys *keys);

/* NULL: there is none of that id. */
const struct seal_key *seal_keys_find(const struct seal_keys *keys, const uint8_t *id);
/* The one that new objects are sealed for. */
const struct seal_key *seal_keys_newest(const struct seal_keys *keys);

enum {
    SEAL_NONCE_LEN = 12, /* NIST SP 800-38D, 8.2 */
    SEAL_TAG_LEN = 16,
    SEAL_HEADER_LEN = 8 + 8 + 8 + SEAL_NONCE_LEN + SEAL_KEY_LEN + SEAL_TAG_LEN,
    SEAL_OWNER_LEN = STORE_OWNER_MAX + 2, /* filled up with zeros, which hide its length */
    SEAL_SEALED_OWNER_LEN = SEAL_OWNER_LEN + SEAL_TAG_LEN,
    SEAL_CHUNK_LEN = 64 * 1024, /* of the object's bytes */
    SEAL_SEALED_CHUNK_LEN = SEAL_CHUNK_LEN + SEAL_TAG_LEN,
};

struct seal_opened {
    uint8_t key[SEAL_KEY_LEN]; /* overwrite it after use: seal_opened_done */
    uint64_t size;             /* of the object's bytes */
    bool owned;                /* its owner is behind the header */
};
/* Where its chunks begin, and how many bytes it is when sealed. */
size_t seal_start(const struct seal_opened *opened);
uint64_t seal_size(const struct seal_opened *opened);

/* Append `data` to *out, sealed as the object `name`. `owner`: at most STORE_OWNER_MAX bytes, ""
 * without one. ERROR_INTERNAL: no randomness. */
bool seal(const struct seal_keys *keys, const char *name, const char *owner, struct bytes data,
          struct buffer *out, struct error *err) NODISCARD;

/* ERROR_INTERNAL: damaged, or another object's. ERROR_UNAVAILABLE: for a key that is not there. */
bool seal_open(const struct seal_keys *keys, const char *name,
               const uint8_t header[SEAL_HEADER_LEN], struct seal_opened *ret,
               struct error *err) NODISCARD;
void seal_opened_done(struct seal_opened *opened);
/* The owner, from what is behind the header of an `owned` one. ERROR_INTERNAL: damaged. */
bool seal_open_owner(const struct seal_opened *opened, struct bytes sealed,
                     char owner[STORE_OWNER_MAX + 1], struct error *err) NODISCARD;
/* Append the bytes of the sealed chunks, of which the first is number `first`. ERROR_INTERNAL:
 * damaged, or chunks are missing: of the last one only its end. */
bool seal_open_chunks(const struct seal_opened *opened, uint64_t first, struct bytes sealed,
                      struct buffer *out, struct error *err) NODISCARD;

/* Make the header one for the newest key; the chunks stay as they are. *changed: it was not.
 * Errors of seal_open. */
bool seal_rewrap(const struct seal_keys *keys, const char *name, uint8_t header[SEAL_HEADER_LEN],
                 bool *changed, struct error *err) NODISCARD;
