#include "../test_cases.h"
#include "base/xmalloc.h"

#include <sys/wait.h>

TEST(test_gives_memory)
{
    CLEANUP_FREE char *block = xmalloc(100);
    CLEANUP_FREE char *zeros = xcalloc(10, 10);
    CLEANUP_FREE char *copy = xstrdup("text");
    CLEANUP_FREE char *text = xasprintf("%s %d", "text", 1);

    memset(block, 0, 100);
    assert_memory_equal(zeros, block, 100);
    block = xreallocarray(block, 10, 20);
    memset(block, 'x', 200);
    assert_string_equal(copy, "text");
    assert_string_equal(text, "text 1");
}

TEST(test_ends_the_process_without_memory)
{
    volatile size_t too_much = SIZE_MAX / 4;
    int status;

    pid_t child = fork();
    if (child == 0) {
        void *volatile block = xmalloc(too_much);
        (void)block;
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0); /* sanitizers exit themselves */
}

TEST_MAIN(NULL, NULL)
