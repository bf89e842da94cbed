/* RFC 4648, section 5, as JOSE writes it: no padding, no white space, and unused bits zero, so that
 * every value has one spelling. Pure and thread-safe. */
#ifndef DARKROOM_BASE_BASE64URL_H
#define DARKROOM_BASE_BASE64URL_H

#include "base/bytes.h"

/* Appended to out. */
bool base64url_encode(struct bytes data, struct buffer *out, struct error *err) NODISCARD;
/* Appended to out. ERROR_BAD_REQUEST for anything else; ERROR_TOO_LARGE. */
bool base64url_decode(struct bytes text, struct buffer *out, struct error *err) NODISCARD;

#endif
