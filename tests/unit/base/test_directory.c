#include "../test_cases.h"
#include "base/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static char root[] = "/tmp/darkroom-directory-XXXXXX";

static int make_root(void **state)
{
    return mkdtemp(root) == NULL || chdir(root) != 0;
}

static int remove_root(void **state)
{
    return unlink("file") | rmdir("a/b/c") | rmdir("a/b") | rmdir("a") | chdir("/") | rmdir(root);
}

TEST(of_a_file)
{
    static const char *const paths[][2] = {{"a/b/c", "a/b"}, {"/a/b", "/a"}, {"/a", "/"},
                                           {"a/", "a"},      {"a", "."},     {"", "."}};

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        CLEANUP_FREE char *dir = directory_of(paths[i][0]);
        assert_string_equal(dir, paths[i][1]);
    }
}

TEST(made)
{
    struct stat st;

    assert_true(directory_make("a//b/"));
    assert_true(directory_make("./a/b/c"));
    assert_true(directory_make("a/b/c")); /* there already */
    assert_true(directory_make(root));
    assert_true(directory_make("/"));
    assert_true(directory_make(""));
    assert_int_equal(stat("a/b/c", &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_true(directory_sync(AT_FDCWD, "a/b"));
}

TEST(not_made)
{
    int fd = open("file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_false(directory_make("file/below"));
    assert_int_equal(errno, ENOTDIR);
    assert_false(directory_make("file"));
    assert_int_equal(errno, ENOTDIR);
    assert_false(directory_sync(AT_FDCWD, "file"));
    assert_false(directory_sync(AT_FDCWD, "nothing"));
    assert_int_equal(errno, ENOENT);
}

TEST_MAIN(make_root, remove_root)
