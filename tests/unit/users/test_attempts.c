#include "users/attempts.h"

#include "../test_cases.h"
#include "base/clock.h"

static struct attempts *attempts;

static int setup(void **state)
{
    attempts = attempts_new();
    clock_set_ahead(0);
    return 0;
}

static int teardown(void **state)
{
    attempts_free(attempts);
    clock_set_ahead(0);
    return 0;
}

static int taken(const char *name, const char *address, int most)
{
    int64_t wait_ms;
    int n = 0;

    while (n < most && attempts_take(attempts, name, address, &wait_ms))
        n++;
    return n;
}

TEST_WITH(five_at_once_then_one_in_30_s, setup, teardown)
{
    int64_t wait_ms = 0;

    assert_int_equal(taken("alice", "192.0.2.1", 9), 5);
    assert_false(attempts_take(attempts, "alice", "192.0.2.1", &wait_ms));
    assert_in_range(wait_ms, 29000, 30000);
    clock_set_ahead(30000);
    assert_int_equal(taken("alice", "192.0.2.1", 9), 1);
    clock_set_ahead(30000 + 5 * 30000);
    assert_int_equal(taken("alice", "192.0.2.1", 9), 5);
}

/* From any number of addresses. */
TEST_WITH(a_stranger_elsewhere_locks_nobody_out, setup, teardown)
{
    char address[64];

    for (int i = 0; i < 20000; i++) {
        snprintf(address, sizeof(address), "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        taken("alice", address, 9);
    }
    assert_int_equal(taken("alice", "192.0.2.1", 9), 5);
}

TEST_WITH(thirty_names_an_address, setup, teardown)
{
    char name[32];
    int n = 0;

    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "user%d", i);
        n += taken(name, "192.0.2.1", 1);
    }
    assert_int_equal(n, 30);
    assert_int_equal(taken("user0", "192.0.2.2", 1), 1);
    clock_set_ahead(5000);
    assert_int_equal(taken("another", "192.0.2.1", 9), 1);
}

TEST_WITH(what_did_not_fail_does_not_count, setup, teardown)
{
    int64_t wait_ms;

    for (int i = 0; i < 1000; i++) {
        assert_true(attempts_take(attempts, "alice", "192.0.2.1", &wait_ms));
        attempts_give(attempts, "alice", "192.0.2.1");
    }
    assert_int_equal(taken("alice", "192.0.2.1", 9), 5);
}

TEST_WITH(one_customer_of_ipv6_is_one_address, setup, teardown)
{
    int n = 0;
    char address[64];

    for (int i = 0; i < 100; i++) {
        snprintf(address, sizeof(address), "2001:db8:1:2:%x::%x", i, i);
        n += taken("alice", address, 1);
    }
    assert_int_equal(n, 5);
    assert_int_equal(taken("alice", "2001:db8:1:3::1", 9), 5);
}

/* As some proxies write it. */
TEST_WITH(ipv4_in_ipv6_is_ipv4, setup, teardown)
{
    assert_int_equal(taken("alice", "::ffff:203.0.113.7", 9), 5);
    assert_int_equal(taken("alice", "203.0.113.7", 9), 0);
    assert_int_equal(taken("alice", "::ffff:198.51.100.9", 9), 5);
}

/* "ab" from "c" is not "a" from "bc"; an address that is not known is one, too. */
TEST_WITH(pairs_are_told_apart, setup, teardown)
{
    assert_int_equal(taken("ab", "c", 9), 5);
    assert_int_equal(taken("a", "bc", 9), 5);
    assert_int_equal(taken("", "d", 9), 5);
    assert_int_equal(taken("alice", "", 9), 5);
}

TEST_MAIN(NULL, NULL)
