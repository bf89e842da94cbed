#include "base/json_cost.h"

enum { VALUE_BYTES = 64, STRING_BYTES = 64, CONTAINER_BYTES = 512 };

int64_t json_cost(struct bytes text)
{
    int64_t values = 0, containers = 0, strings = 0, longest = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        values += c == ',' || c == ':';
        containers += c == '[' || c == '{';
        if (c != '"')
            continue;
        size_t start = ++i;
        while (i < text.len && text.data[i] != '"')
            i += text.data[i] == '\\' ? 2 : 1;
        int64_t len = (int64_t)(i - start);
        strings += STRING_BYTES + len;
        longest = len > longest ? len : longest;
    }
    /* the parser's buffer for a string grows by doubling, and is copied then */
    return VALUE_BYTES * values + CONTAINER_BYTES * containers + strings + 3 * longest;
}
