/* A folder for the files of a test. */
#pragma once

#include <ftw.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { TEST_FOLDER_MAX = 64 };

/* In memory if possible: a disk that others use, too, takes most of the time. But a container has
 * 64 MiB there for all tests. 0, or not: like what a set-up returns. */
static inline int test_folder_make(char out[TEST_FOLDER_MAX])
{
    struct statvfs memory;
    bool roomy = access("/dev/shm", W_OK | X_OK) == 0 && statvfs("/dev/shm", &memory) == 0 &&
                 memory.f_bavail >= (1U << 30) / memory.f_frsize;

    snprintf(out, TEST_FOLDER_MAX, "%s/darkroom-test.XXXXXX", roomy ? "/dev/shm" : "/tmp");
    return mkdtemp(out) == NULL;
}

static inline int test_folder_entry(const char *name, const struct stat *st, int type,
                                    struct FTW *ftw)
{
    return remove(name);
}

/* With all that is in it. */
static inline int test_folder_remove(const char *folder)
{
    return nftw(folder, test_folder_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* How many files fit "folder/pattern". */
static inline size_t test_folder_count(const char *folder, const char *pattern)
{
    char all[4096 + 256];
    glob_t found;

    snprintf(all, sizeof(all), "%s/%s", folder, pattern);
    if (glob(all, 0, NULL, &found) != 0)
        return 0;
    size_t count = found.gl_pathc;
    globfree(&found);
    return count;
}
