/* multipart/form-data (RFC 7578 over RFC 2046), parsed as it streams: a pure function over chunks.
 * The parser keeps no content: it reports where each part's content lies in the stream, so that a
 * caller who has the stream in memory uses it in place. Every limit below is hard:
 * ERROR_BAD_REQUEST. Not thread-safe; nothing to free. */
#ifndef DARKROOM_HTTP_MULTIPART_H
#define DARKROOM_HTTP_MULTIPART_H

#include "base/bytes.h"

enum {
    MULTIPART_BOUNDARY_MAX = 70, /* RFC 2046, 5.1.1 */
    MULTIPART_PARTS_MAX = 16,
    MULTIPART_HEADERS_MAX = 4096, /* of one part */
    MULTIPART_NAME_MAX = 64,
};

struct multipart_part {
    char name[MULTIPART_NAME_MAX + 1];
    bool is_file;        /* had a filename */
    uint64_t start, end; /* of the content, as offsets in the stream */
};

struct multipart {
    enum {
        MULTIPART_PREAMBLE,
        MULTIPART_AFTER_DELIMITER,
        MULTIPART_HEADERS,
        MULTIPART_CONTENT,
        MULTIPART_EPILOGUE,
    } state;
    char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* CR LF -- boundary */
    size_t delimiter_len;
    size_t matched;  /* bytes of the delimiter seen so far */
    uint64_t offset; /* of the next byte */
    char headers[MULTIPART_HEADERS_MAX + 1];
    size_t header_len;
    size_t part_count;
    struct multipart_part parts[MULTIPART_PARTS_MAX];
};

/* Start with the value of the Content-Type header. */
bool multipart_init(struct multipart *m, const char *content_type, struct error *err) NODISCARD;
bool multipart_feed(struct multipart *m, struct bytes chunk, struct error *err) NODISCARD;
/* After the last chunk: an error if the closing delimiter has not been seen. m->parts is complete.
 */
bool multipart_finish(const struct multipart *m, struct error *err) NODISCARD;

#endif
