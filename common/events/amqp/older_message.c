#include "events/amqp/older_message.h"

#include <ctype.h>
#include <string.h>

bool older_message_read(struct bytes body, struct older_message *ret, struct error *err)
{
    static const char plain[] = " XX false", encrypted[] = " XX true";
    const struct bytes ends[] = {bytes_from_str(plain), bytes_from_str(encrypted)};
    size_t len = 0;

    while (
        len < body.len && len <= OLDER_NAME_MAX &&
        (isalnum(body.data[len]) || strchr("._-", body.data[len] != '\0' ? body.data[len] : ' ')))
        len++;
    const struct bytes rest = len > 0 ? bytes_of(body.data + len, body.len - len) : body;
    ret->encrypted = bytes_equal(rest, ends[1]);
    if (len == 0 || len > OLDER_NAME_MAX || body.data[0] == '.' ||
        (!ret->encrypted && !bytes_equal(rest, ends[0])))
        return error_set(err, ERROR_BAD_REQUEST,
                         "not \"<name> XX <true|false>\", the older manager's form");
    memcpy(ret->name, body.data, len);
    ret->name[len] = '\0';
    return true;
}
