/* Photographs to upload, each time with other bytes but the same picture: a text with a counter is
 * put into a JPEG comment, a PNG tEXt chunk or an unknown WebP chunk. The file's own bytes stay
 * where they are in memory; only the text is made anew. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PHOTO_MARK_MAX = 64 };

struct photo {
    const char *type; /* "image/jpeg", …; static */
    uint8_t *data;    /* heap */
    size_t len;
    size_t split;    /* the mark goes here */
    size_t mark_len; /* the same for every counter */
};

/* Read a JPEG, PNG or WebP file. False, with a line on stderr, for anything else. */
bool photo_read(struct photo *photo, const char *path);
void photo_done(struct photo *photo);

/* The mark of this upload: mark_len bytes. `run` and `counter` together never repeat. */
void photo_mark(const struct photo *photo, uint64_t run, uint64_t counter,
                uint8_t out[PHOTO_MARK_MAX]);
