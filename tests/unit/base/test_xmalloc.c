#include "base/xmalloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
/* cmocka needs the above */
#include <cmocka.h>

static void test_gives_memory(void **state)
{
    CLEANUP_FREE char *block = xmalloc(100);
    CLEANUP_FREE char *zeros = xcalloc(10, 10);
    CLEANUP_FREE char *copy = xstrdup("text");
    CLEANUP_FREE char *text = xasprintf("%s %d", "text", 1);

    (void)state;
    memset(block, 0, 100);
    assert_memory_equal(zeros, block, 100);
    block = xreallocarray(block, 10, 20);
    memset(block, 'x', 200);
    assert_string_equal(copy, "text");
    assert_string_equal(text, "text 1");
}

static void test_ends_the_process_without_memory(void **state)
{
    volatile size_t too_much = SIZE_MAX / 4;
    int status;

    (void)state;
    pid_t child = fork();
    if (child == 0) {
        void *volatile block = xmalloc(too_much);
        (void)block;
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0); /* sanitizers exit themselves */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gives_memory),
        cmocka_unit_test(test_ends_the_process_without_memory),
    };

    return cmocka_run_group_tests_name("xmalloc", tests, NULL, NULL);
}
