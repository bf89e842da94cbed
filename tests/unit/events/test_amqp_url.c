#include "events/amqp/amqp_url.h"

#include "../test_cases.h"

#include <string.h>

static void test_parts(void **state)
{
    struct amqp_url url;
    struct error err = {0};

    assert_true(
        amqp_url_parse("amqps://a%40b:p%2Fw%3A@[::1]:5000/%2Fprod?heartbeat=7", &url, &err));
    assert_true(url.tls);
    assert_string_equal(url.user, "a@b");
    assert_string_equal(url.password, "p/w:");
    assert_string_equal(url.host, "::1");
    assert_string_equal(url.vhost, "/prod");
    assert_int_equal(url.port, 5000);
    assert_int_equal(url.heartbeat_s, 7);
}

static void test_defaults(void **state)
{
    struct amqp_url url;
    struct error err = {0};

    assert_true(amqp_url_parse("amqp://broker", &url, &err));
    assert_false(url.tls);
    assert_string_equal(url.user, "guest");
    assert_string_equal(url.password, "guest");
    assert_string_equal(url.vhost, "/");
    assert_int_equal(url.port, 5672);
    assert_int_equal(url.heartbeat_s, AMQP_HEARTBEAT_DEFAULT_S);
    assert_true(amqp_url_parse("amqps://u@broker/", &url, &err));
    assert_int_equal(url.port, 5671);
    assert_string_equal(url.password, "");
    assert_string_equal(url.vhost, "/");
}

static void test_mistakes(void **state)
{
    static const char *const mistakes[] = {
        "http://x",       "amqp://",          "amqp://u:secret@",    "amqp://h:0",
        "amqp://h:x",     "amqp://[::1",      "amqp://[::1]x",       "amqp://h:123456789",
        "amqp://h/a/b",   "amqp://h?x=1",     "amqp://h?heartbeat=", "amqp://u:secret%@h",
        "amqp://h:99999", "amqp://u@secret@h"};

    for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
        struct amqp_url url;
        struct error err = {0};
        assert_false(amqp_url_parse(mistakes[i], &url, &err));
        assert_int_equal(err.code, ERROR_CONFIG);
        assert_null(strstr(err.message, "secret"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests_name("amqp_url", tests, NULL, NULL);
}
