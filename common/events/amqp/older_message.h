/* What the older image manager sends its classifier: "<name> XX <true|false>", a picture's name in
 * its storage, and whether it is encrypted there. Pure. */
#pragma once

#include "base/bytes.h"

enum { OLDER_NAME_MAX = 255 };

struct older_message {
    char name[OLDER_NAME_MAX + 1]; /* [A-Za-z0-9._-], no dot first: safe in a path and in a URL */
    bool encrypted;
};

/* ERROR_BAD_REQUEST for anything else. */
bool older_message_read(struct bytes body, struct older_message *ret, struct error *err) NODISCARD;
