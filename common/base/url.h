/* URLs of where secrets go to or keys come from. Pure and thread-safe. */
#pragma once

#include <stdbool.h>

/* Whether nobody on the way can read or change what goes there: https, or http to this machine
 * (localhost, 127.0.0.0/8, ::1). No user information, no fragment, no characters to be encoded. */
bool url_is_safe(const char *url);
