/* An operator's keys, as seal.c uses them. */
#pragma once

#include "store/sealed/seal.h"

enum { SEAL_KEY_ID_LEN = 8 };

struct seal_key {
    uint8_t id[SEAL_KEY_ID_LEN]; /* the first bytes of the key's SHA-256 */
    uint8_t bytes[SEAL_KEY_LEN];
};

/* NULL: there is none of that id. */
const struct seal_key *seal_keys_find(const struct seal_keys *keys, const uint8_t *id);
const struct seal_key *seal_keys_newest(const struct seal_keys *keys);
