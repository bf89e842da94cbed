/* Content codings (RFC 9110, 8.4) of request bodies and replies: gzip and deflate, by zlib, which
 * no other file includes. Both take CPU time: what is large is for a worker. Thread-safe. */
#pragma once

#include "http/reply.h"
#include "http/request.h"

enum coding { CODING_IDENTITY, CODING_GZIP, CODING_DEFLATE };

/* Whether the body is what it is, without a Content-Encoding. */
bool encoding_is_identity(const struct request *req);

/* A body without its coding. Zero-initialise. */
struct decoded_body {
    struct bytes bytes; /* borrowed from the request, or from `unpacked` */
    struct buffer unpacked;
    struct byte_budget *budget;
    int64_t charged;
};

/* Undo the request's Content-Encoding. What it unpacks to is charged to the request's budget until
 * decoded_body_done. ERROR_UNSUPPORTED_MEDIA: another coding, or several. ERROR_BAD_REQUEST: not
 * whole. ERROR_TOO_LARGE: unpacks to more than `max` bytes. ERROR_OVERLOADED: no room now. */
bool body_decode(const struct request *req, size_t max, struct decoded_body *ret,
                 struct error *err) NODISCARD;
/* The same for bytes whose coding is known. `ret` as body_decode leaves it. */
bool body_unpack(struct bytes packed, enum coding coding, struct byte_budget *budget, size_t max,
                 struct decoded_body *ret, struct error *err) NODISCARD;
void decoded_body_done(struct decoded_body *body);

/* The coding of a reply that the request's Accept-Encoding wants. */
enum coding encoding_accepted(const struct request *req);
/* Pack it; *ret is the caller's. Out of memory: false. */
bool body_pack(struct bytes body, enum coding coding, struct buffer *ret,
               struct error *err) NODISCARD;
/* Pack the body and say so in a header. Out of memory: false, and the reply stays as it was. */
bool reply_encode(struct reply *reply, enum coding coding, struct error *err) NODISCARD;
