/* The text form of the older classifier's queue. */
#include "events/amqp/older_message.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct older_message message;
    struct error err = {0};
    char again[OLDER_NAME_MAX + 16];

    if (!older_message_read(bytes_of(data, size), &message, &err)) {
        FUZZ_CHECK(err.code == ERROR_BAD_REQUEST);
        return 0;
    }
    FUZZ_CHECK(*message.name != '.' && strchr(message.name, '/') == NULL);
    int len = snprintf(again, sizeof(again), "%s XX %s", message.name,
                       message.encrypted ? "true" : "false");
    FUZZ_CHECK((size_t)len == size && memcmp(again, data, size) == 0);
    return 0;
}
