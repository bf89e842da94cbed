#include "image/private.h"

#include <string.h>

/* Before the pixels, as the PNG specification demands; other readers ignore one behind. */
struct cicp png_cicp_read(struct bytes data)
{
    for (size_t at = 8; at + 12 <= data.len;) {
        const uint8_t *chunk = data.data + at;
        size_t len =
            (size_t)chunk[0] << 24 | (size_t)chunk[1] << 16 | (size_t)chunk[2] << 8 | chunk[3];

        if (len > data.len - at - 12 || memcmp(chunk + 4, "IDAT", 4) == 0)
            break;
        if (memcmp(chunk + 4, "cICP", 4) == 0 && len == 4)
            return (struct cicp){chunk[8], chunk[9], .narrow = chunk[11] == 0};
        at += len + 12;
    }
    return (struct cicp){0};
}
