/* What a unit test's program is made of: cases, which run in the order of the file, and one line
 * for main.
 *
 *     TEST(nothing_is_no_number)
 *     {
 *         assert_false(string_to_int64("", 0, 9, &number));
 *     }
 *
 *     TEST_MAIN(NULL, NULL)
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEST_CASES_MAX = 64 };

/* cmocka passes over the empty ones at the end */
static struct CMUnitTest test_cases[TEST_CASES_MAX] __attribute__((unused));

static inline void test_case_add(struct CMUnitTest test)
{
    static size_t count;

    if (count == TEST_CASES_MAX)
        abort();
    test_cases[count++] = test;
}

/* A case between a set-up and a tear-down, each of which may be NULL. `state` is cmocka's. */
#define TEST_WITH(name, setup, teardown)                                                           \
    static void name(void **state);                                                                \
    __attribute__((constructor)) static void name##_is_a_case(void)                                \
    {                                                                                              \
        test_case_add((struct CMUnitTest){#name, name, setup, teardown, NULL});                    \
    }                                                                                              \
    static void name(void **state)

#define TEST(name) TEST_WITH(name, NULL, NULL)

/* The set-up and the tear-down are the whole program's. */
#define TEST_MAIN(setup, teardown)                                                                 \
    int main(void)                                                                                 \
    {                                                                                              \
        return cmocka_run_group_tests(test_cases, setup, teardown);                                \
    }

/* A call of ours returns false, and `err` has this code. */
#define assert_fails(err, code_, call)                                                             \
    do {                                                                                           \
        assert_false(call);                                                                        \
        assert_int_equal((err).code, code_);                                                       \
    } while (0)

/* Let time pass, where nothing tells that something has been done. */
static inline void sleep_ms(int64_t ms)
{
    usleep((useconds_t)ms * 1000);
}

/* cmocka's skip() has no reason: tests/count.py reads it from what the test prints. */
#define SKIP(reason) (fprintf(stderr, "SKIPPED: %s\n", reason), skip())
#define SKIP_WITHOUT_PROC() (access("/proc/self", F_OK) == 0 ? (void)0 : SKIP("no /proc"))
