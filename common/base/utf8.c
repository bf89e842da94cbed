#include "base/utf8.h"

/* Well-formed byte sequences: The Unicode Standard, table 3-7. */
bool utf8_is_valid(const uint8_t *text, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint8_t c = text[i++];
        size_t more = c < 0x80   ? 0
                      : c < 0xC2 ? SIZE_MAX
                      : c < 0xE0 ? 1
                      : c < 0xF0 ? 2
                      : c < 0xF5 ? 3
                                 : SIZE_MAX;
        uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (more > len - i)
            return false;
        for (; more > 0; more--, i++, low = 0x80, high = 0xBF)
            if (text[i] < low || text[i] > high)
                return false;
    }
    return true;
}
