/* The operator's keys, of SEAL_KEYS_FILE: a base64 key of 32 bytes a line, oldest first. */
#pragma once

#include "base/error.h"

#include <stdint.h>

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
