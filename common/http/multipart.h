/* multipart/form-data (RFC 7578 over RFC 2046) in memory. Pure, thread-safe, nothing to free. Every
 * limit below is hard: ERROR_BAD_REQUEST. */
#pragma once

#include "base/bytes.h"

enum {
    MULTIPART_BOUNDARY_MAX = 70, /* RFC 2046, 5.1.1 */
    MULTIPART_PARTS_MAX = 16,
    MULTIPART_HEADERS_MAX = 4096, /* of one part */
    MULTIPART_NAME_MAX = 64,
};

struct multipart {
    size_t part_count;
    struct multipart_part {
        char name[MULTIPART_NAME_MAX + 1];
        bool is_file;         /* had a filename */
        struct bytes content; /* a view of the body */
    } parts[MULTIPART_PARTS_MAX];
};

/* `content_type` is the header's value. On failure *ret says nothing. */
bool multipart_parse(const char *content_type, struct bytes body, struct multipart *ret,
                     struct error *err) NODISCARD;
