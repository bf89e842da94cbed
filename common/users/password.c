#include "users/password.h"

#include <sodium.h>
#include <string.h>

_Static_assert(PASSWORD_HASH_MAX == crypto_pwhash_STRBYTES, "room for a hash");
_Static_assert(PASSWORD_MEMORY == crypto_pwhash_MEMLIMIT_INTERACTIVE, "what a call takes");

/* What an unknown user's password is compared with: the same work, and no password's hash. */
static const char nobodys[] = "$argon2id$v=19$m=65536,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA"
                              "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static bool begin(struct error *err)
{
    return sodium_init() >= 0 || error_set(err, ERROR_INTERNAL, "libsodium cannot start");
}

bool password_hash(const char *password, char out[PASSWORD_HASH_MAX], struct error *err)
{
    if (!begin(err))
        return false;
    return crypto_pwhash_str(out, password, strlen(password), crypto_pwhash_OPSLIMIT_INTERACTIVE,
                             crypto_pwhash_MEMLIMIT_INTERACTIVE) == 0 ||
           error_oom(err);
}

/* libsodium answers alike to a wrong password and to no memory: whether there is some is asked
 * before, so that nobody's right password is called wrong. */
static bool has_memory(struct error *err)
{
    void *block = malloc(PASSWORD_MEMORY);

    free(block);
    return block != NULL || error_oom(err);
}

bool password_verify(const char *password, const char *hash, bool *ret, struct error *err)
{
    if (!begin(err) || !has_memory(err))
        return false;
    bool same =
        crypto_pwhash_str_verify(hash != NULL ? hash : nobodys, password, strlen(password)) == 0;
    *ret = hash != NULL && same;
    return true;
}
