#include "../test_cases.h"
#include "base/bytes.h"

/* So that the sanitizers' malloc fails like any other. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

TEST(views)
{
    struct bytes abc = bytes_from_str("abc");
    struct bytes empty = {0};

    assert_int_equal(abc.len, 3);
    assert_true(bytes_equal(abc, bytes_of("abcd", 3)));
    assert_false(bytes_equal(abc, bytes_of("abd", 3)));
    assert_false(bytes_equal(abc, bytes_of("ab", 2)));
    assert_true(bytes_equal(empty, bytes_of("", 0)));
    assert_true(bytes_starts_with(abc, "ab", 2));
    assert_true(bytes_starts_with(abc, "abc", 3));
    assert_false(bytes_starts_with(abc, "abcd", 4));
    assert_false(bytes_starts_with(abc, "b", 1));
    assert_true(bytes_starts_with(abc, "", 0));
    assert_true(bytes_starts_with(empty, NULL, 0));
    assert_false(bytes_starts_with(empty, "a", 1));
}

TEST(grows_to_its_maximum_and_no_further)
{
    CLEANUP(buffer_done) struct buffer b = BUFFER_MAX(1000);
    struct error err = {0};

    for (int i = 0; i < 1000; i++) {
        uint8_t c = (uint8_t)i;
        assert_true(buffer_append(&b, &c, 1, &err));
        assert_true(b.cap <= 1000);
    }
    assert_int_equal(b.len, 1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(b.data[i], (uint8_t)i);
    assert_fails(err, ERROR_TOO_LARGE, buffer_append(&b, "x", 1, &err));
    assert_int_equal(b.len, 1000);
    assert_true(buffer_append(&b, "x", 0, &err));
    assert_true(buffer_append(&b, NULL, 0, &err));
}

TEST(sizes_do_not_overflow)
{
    static const size_t huge[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 1, 91};
    struct error err;

    for (size_t i = 0; i < ARRAY_SIZE(huge); i++) {
        CLEANUP(buffer_done) struct buffer b = BUFFER_MAX(100);
        assert_true(buffer_append_str(&b, "0123456789", &err));
        assert_fails(err, ERROR_TOO_LARGE, buffer_reserve(&b, huge[i], &err));
        assert_true(buffer_reserve(&b, 90, &err));
    }
}

TEST(memory_may_run_out)
{
    CLEANUP(buffer_done) struct buffer b = BUFFER_MAX(SIZE_MAX);
    struct error err = {0};

    assert_true(buffer_append_str(&b, "kept", &err));
    assert_false(buffer_reserve(&b, (size_t)PTRDIFF_MAX, &err)); /* more than malloc ever gives */
    assert_int_equal(err.code, ERROR_OVERLOADED);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "kept", 4);
}

TEST(no_maximum_means_nothing_fits)
{
    struct buffer b = {0};
    struct error err = {0};

    assert_fails(err, ERROR_TOO_LARGE, buffer_append(&b, "x", 1, &err));
    assert_null(b.data);
    assert_string_equal(buffer_cstr(&b, &err), "");
    buffer_done(&b);
    buffer_done(&b);
}

TEST(prints_exactly_to_the_maximum)
{
    CLEANUP(buffer_done) struct buffer b = BUFFER_MAX(10);
    struct error err = {0};

    assert_true(buffer_printf(&b, &err, "%s-%d", "abc", 12));
    assert_int_equal(b.len, 6);
    assert_true(buffer_printf(&b, &err, "%s", "wxyz"));
    assert_int_equal(b.len, 10);
    assert_int_equal(b.max, 10);
    assert_fails(err, ERROR_TOO_LARGE, buffer_printf(&b, &err, "!"));
    assert_non_null(strstr(err.message, "10"));
    assert_string_equal(buffer_cstr(&b, &err), "abc-12wxyz");
    assert_int_equal(b.len, 10);
    assert_int_equal(b.max, 10);
}

TEST_MAIN(NULL, NULL)
