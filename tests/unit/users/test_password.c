#include "users/password.h"

#include "../test_cases.h"
#include "base/clock.h"

#include <time.h>

static bool matches(const char *password, const char *hash)
{
    struct error err = {0};
    bool same = false;

    if (!password_verify(password, hash, &same, &err))
        fail_msg("%s", err.message);
    return same;
}

TEST(hashes_are_argon2id_and_salted)
{
    char one[PASSWORD_HASH_MAX], two[PASSWORD_HASH_MAX];
    struct error err = {0};

    assert_true(password_hash("correct horse", one, &err));
    assert_true(password_hash("correct horse", two, &err));
    assert_memory_equal(one, "$argon2id$v=19$m=65536,t=2,p=1$", 31);
    assert_string_not_equal(one, two);
    assert_true(matches("correct horse", one) && matches("correct horse", two));
    assert_false(matches("correct horsE", one));
    assert_false(matches("", one));
}

/* Nor do they take memory without end. */
TEST(damaged_hashes_match_nothing)
{
    static const char *const bad[] = {
        "",
        "x",
        "$argon2id$v=19$m=65536,t=2,p=1$",
        "$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAA",
        "$2b$12$abcdefghijklmnopqrstuv",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(matches("password", bad[i]));
}

static double cpu_s(const char *password, const char *hash)
{
    struct timespec begin, end;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    matches(password, hash);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* The work is the same, so is the time: medians of CPU time, not of a clock that others move. */
TEST(nobodys_password_takes_as_long)
{
    enum { ROUNDS = 9 };
    double known[ROUNDS], unknown[ROUNDS];
    char hash[PASSWORD_HASH_MAX];
    struct error err = {0};

    assert_true(password_hash("correct horse", hash, &err));
    for (int i = 0; i < ROUNDS; i++) {
        known[i] = cpu_s("wrong horse", hash);
        unknown[i] = cpu_s("wrong horse", NULL);
    }
    qsort(known, ROUNDS, sizeof(double), ascending);
    qsort(unknown, ROUNDS, sizeof(double), ascending);
    double ratio = unknown[ROUNDS / 2] / known[ROUNDS / 2];
    print_message("CPU time of an unknown user's attempt / a known one's: %.3f\n", ratio);
    assert_true(ratio > 0.8 && ratio < 1.25);
    assert_false(matches("", NULL));
}

TEST_MAIN(NULL, NULL)
