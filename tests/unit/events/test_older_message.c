#include "../test_cases.h"
#include "events/amqp/older_message.h"

#include <string.h>

TEST(test_what_the_older_manager_sends)
{
    struct older_message m;
    struct error err = {0};

    assert_true(older_message_read(bytes_from_str("3f2b-8a.jpeg XX false"), &m, &err));
    assert_string_equal(m.name, "3f2b-8a.jpeg");
    assert_false(m.encrypted);
    assert_true(older_message_read(bytes_from_str("a XX true"), &m, &err));
    assert_string_equal(m.name, "a");
    assert_true(m.encrypted);
}

TEST(test_anything_else)
{
    static const char *const refused[] = {
        "",
        " XX true",
        "a XX yes",
        "a XX true ",
        "a  XX true",
        "a",
        ".a XX true",
        "../a XX false",
        "a/b XX false",
        "a%2f XX false",
        "a?b XX true",
        "a XX TRUE",
        "a\nb XX true",
        "a\xc3 XX true",
        "a XX true\r\n",
    };
    char long_name[OLDER_NAME_MAX + 16];
    struct older_message m;

    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        struct error err = {0};
        assert_fails(err, ERROR_BAD_REQUEST,
                     older_message_read(bytes_from_str(refused[i]), &m, &err));
    }
    for (size_t len = OLDER_NAME_MAX; len <= OLDER_NAME_MAX + 1; len++) {
        struct error err = {0};
        memset(long_name, 'a', len);
        strcpy(long_name + len, " XX true");
        assert_int_equal(older_message_read(bytes_from_str(long_name), &m, &err),
                         len == OLDER_NAME_MAX);
    }
    struct error err = {0};
    assert_false(older_message_read(bytes_of("a\0b XX true", 11), &m, &err));
}

TEST_MAIN(NULL, NULL)
