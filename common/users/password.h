/* Passwords at rest: Argon2id by libsodium, which this file alone knows. Each call takes some 0.1 s
 * of CPU time and PASSWORD_MEMORY: it is a worker's, not a connection thread's. Thread-safe. */
#pragma once

#include "base/error.h"

#include <stdint.h>

enum {
    PASSWORD_MIN = 8, /* bytes: NIST SP 800-63B, 5.1.1.2 */
    PASSWORD_MAX = 1024,
    PASSWORD_HASH_MAX = 128, /* with its NUL: crypto_pwhash_STRBYTES */
    /* crypto_pwhash_MEMLIMIT_INTERACTIVE, with OPSLIMIT_INTERACTIVE (2 passes): above what OWASP's
     * "Password Storage" asks for (19 MiB, 2 passes) */
    PASSWORD_MEMORY = 67108864,
};

/* ERROR_OVERLOADED: no memory. */
bool password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct error *err) NODISCARD;
/* *ret: whether the hash is of this password. For `hash` NULL the answer is no, and takes as long.
 */
bool password_verify(const char *password, const char *hash, bool *ret,
                     struct error *err) NODISCARD;
