/* A fuzz target without a fuzzer: a unit test that feeds it files. The program's name says which:
 * build/VARIANT/unit/test_fuzz_X replays build/VARIANT/seeds/X (made by the build) and the files
 * and folders that are its arguments. */
#include "base/xmalloc.h"
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#pragma weak LLVMFuzzerInitialize

enum { FILE_MAX = 4 << 20, PATHS_MAX = 64 };

static char seeds[4096];
static const char *paths[PATHS_MAX];
static size_t path_count;

/* In a block of its very size, as libFuzzer does. */
static void replay_file(const char *path)
{
    CLEANUP_FCLOSE FILE *f = fopen(path, "rbe");
    CLEANUP_FREE uint8_t *all = malloc(FILE_MAX);

    assert_non_null(f);
    assert_non_null(all);
    size_t size = fread(all, 1, FILE_MAX, f);
    assert_true(size < FILE_MAX);
    CLEANUP_FREE uint8_t *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, all, size);
    LLVMFuzzerTestOneInput(exact, size);
}

static size_t replay(const char *path)
{
    struct stat st;
    size_t count = 0;

    if (stat(path, &st) != 0)
        fail_msg("%s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) {
        replay_file(path);
        return 1;
    }
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        CLEANUP_FREE char *name = xasprintf("%s/%s", path, entry->d_name);
        assert_non_null(name);
        if (entry->d_name[0] == '.')
            continue;
        replay_file(name);
        count++;
    }
    closedir(dir);
    return count;
}

static void test_corpus(void **state)
{
    size_t count = 0;

    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (size_t i = 0; i < path_count; i++)
        count += replay(paths[i]);
    printf("%zu inputs\n", count);
    assert_true(count > 0);
}

int main(int argc, char **argv)
{
    const char *name = strstr(argv[0], "test_fuzz_");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus)};

    if (name == NULL)
        return 2;
    if (LLVMFuzzerInitialize != NULL && LLVMFuzzerInitialize(&argc, &argv) != 0)
        return 2;
    snprintf(seeds, sizeof(seeds), "%.*s../seeds/%s", (int)(name - argv[0]), argv[0],
             name + strlen("test_fuzz_"));
    paths[path_count++] = seeds;
    for (int i = 1; i < argc && path_count < PATHS_MAX; i++)
        paths[path_count++] = argv[i];
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
