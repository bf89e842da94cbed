/* Small string helpers that C lacks: hex, base64, percent-encoding, UTF-8, URLs, numbers, and
 * comparing in constant time. Pure and thread-safe. */
#pragma once

#include "base/bytes.h"

enum { SHA256_SIZE = 32, SHA256_HEX_LEN = 64, UUID_LEN = 36 };

/* Lower-case hex of `data` into out, which holds 2 * data.len + 1 bytes. */
void string_hex(struct bytes data, char *out);
/* Lower-case hex SHA-256 over `count` parts, one after the other. ERROR_INTERNAL. */
bool string_sha256_hex(const struct bytes *parts, size_t count, char out[SHA256_HEX_LEN + 1],
                       struct error *err) NODISCARD;
/* Whether s is exactly 64 lower-case hex digits. */
bool string_is_sha256_hex(const char *s);

/* Parse all of s as a decimal number within [min, max]; no sign but '-', no spaces. */
bool string_to_int64(const char *s, int64_t min, int64_t max, int64_t *ret) NODISCARD;

/* RFC 4648 base64 with padding, appended to out. */
bool string_base64_encode(struct bytes data, struct buffer *out, struct error *err) NODISCARD;
/* Strict decode (padding required, no white space), appended to out. ERROR_BAD_REQUEST. */
bool string_base64_decode(const char *text, struct buffer *out, struct error *err) NODISCARD;

/* RFC 4648, section 5, as JOSE writes it: no padding, no white space, and unused bits zero, so that
 * every value has one spelling. Appended to out. */
bool base64url_encode(struct bytes data, struct buffer *out, struct error *err) NODISCARD;
/* ERROR_BAD_REQUEST for anything else; ERROR_TOO_LARGE. */
bool base64url_decode(struct bytes text, struct buffer *out, struct error *err) NODISCARD;

/* RFC 3986: everything outside unreserved and `also_safe` becomes %XX; appended to out. */
bool string_percent_encode(const char *s, const char *also_safe, struct buffer *out,
                           struct error *err) NODISCARD;
/* Decode %XX once, appended to out. ERROR_BAD_REQUEST on a stray '%' or a NUL. */
bool string_percent_decode(const char *s, struct buffer *out, struct error *err) NODISCARD;

bool string_is_utf8(struct bytes text);
/* As many whole characters of a valid text as fit into `size` bytes with a NUL. */
void utf8_copy(char *out, size_t size, const char *text);
bool string_starts_with(const char *s, const char *prefix);
bool string_ends_with(const char *s, const char *suffix);
/* Whether a list, whose items are between commas and blanks, has `text`, which is not "". */
bool string_list_has(const char *list, const char *text, bool ignore_case);

/* strcmp() == 0 in time that depends only on the lengths: for secrets. */
bool string_equal_constant_time(const char *a, const char *b);

/* A random (version 4) UUID, RFC 9562. False if the system has no randomness. */
bool string_uuid(char out[UUID_LEN + 1]) NODISCARD;

/* Whether nobody on the way can read or change what goes to a URL: https, or http to this machine
 * (localhost, 127.0.0.0/8, ::1). No user information, no fragment, no characters to be encoded. */
bool url_is_safe(const char *url);
