/* A service account's key file, and the signed assertion (JWT, RS256) that is exchanged for a
 * token. Private to common/client. */
#pragma once

#include "base/bytes.h"

struct google_key;

/* ERROR_CONFIG; messages never hold what is in the file. */
struct google_key *google_key_read(const char *path, struct error *err) NODISCARD;
void google_key_free(struct google_key *key);

/* Where the assertion is exchanged: https, or http on loopback. Borrowed. */
const char *google_key_token_uri(const struct google_key *key);
/* An assertion valid for an hour from now_s (seconds since 1970), appended to out. */
bool google_key_assertion(const struct google_key *key, const char *scope, int64_t now_s,
                          struct buffer *out, struct error *err) NODISCARD;
