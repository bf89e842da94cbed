/* The keys that sign our users' tokens (Ed25519), and the tokens: JSON Web Tokens that are good for
 * an hour. The file has a key a line, 32 bytes in base64, oldest first: the last one signs, all of
 * them verify. A token names its key by the key's own hash. The file is looked at with every
 * token, and read again when it has changed. Thread-safe. */
#pragma once

#include "base/bytes.h"

struct token_keys;

enum {
    TOKEN_LIFE_S = 3600,
    TOKEN_MAX = 1024, /* with its NUL */
    TOKEN_KEYS_MAX = 16,
    TOKEN_NAME_MAX = 64,
};

/* Who a token is of, and which of that account's. */
struct token_subject {
    char name[TOKEN_NAME_MAX + 1];
    int64_t generation;
};

/* Read the file; one that is missing is made, with one key, for its owner alone. ERROR_CONFIG:
 * it holds something else. ERROR_UNAVAILABLE. */
struct token_keys *token_keys_open(const char *path, struct error *err) NODISCARD;
void token_keys_free(struct token_keys *keys);

/* A token of the newest key. */
bool token_sign(struct token_keys *keys, const struct token_subject *subject, char out[TOKEN_MAX],
                struct error *err) NODISCARD;
/* ERROR_UNAUTHORIZED: not one of ours, or it has expired. The message never quotes it. */
bool token_read(struct token_keys *keys, const char *token, struct token_subject *ret,
                struct error *err) NODISCARD;

/* Add a key to the file; the oldest above TOKEN_KEYS_MAX goes. Services notice by themselves. */
bool token_keys_rotate(const char *path, struct error *err) NODISCARD;
