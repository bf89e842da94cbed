#include "base/context.h"

#include "base/strings.h"

#include <string.h>

bool request_id_is_valid(const char *id)
{
    size_t len = strlen(id);

    return len >= 1 && len <= REQUEST_ID_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == len;
}

bool traceparent_is_valid(const char *value)
{
    static const char hex[] = "0123456789abcdef";

    return strlen(value) == TRACEPARENT_LEN && string_starts_with(value, "00-") &&
           strspn(value + 3, hex) == 32 && value[35] == '-' && strspn(value + 36, hex) == 16 &&
           value[52] == '-' && strspn(value + 53, hex) == 2 && strspn(value + 3, "0") < 32 &&
           strspn(value + 36, "0") < 16;
}
