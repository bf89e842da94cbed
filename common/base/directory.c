#include "base/directory.h"

#include "base/xmalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

bool directory_sync(int at, const char *path)
{
    CLEANUP_CLOSE int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && fsync(fd) == 0;
}

char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return xstrdup(".");
    return xasprintf("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

bool directory_make(const char *path)
{
    const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC; /* those above need not be readable */
    CLEANUP_FREE char *copy = xstrdup(path);
    CLEANUP_CLOSE int fd = open(*path == '/' ? "/" : ".", flags);

    char *rest = copy;
    for (char *name; fd >= 0 && (name = strtok_r(rest, "/", &rest)) != NULL;) {
        CLEANUP_CLOSE int parent = fd;
        bool made = mkdirat(parent, name, 0777) == 0;
        int why = errno;
        fd = openat(parent, name, flags);
        if (made && !directory_sync(parent, "."))
            return false;
        if (fd < 0 && !made && why != EEXIST)
            errno = why;
    }
    return fd >= 0;
}

bool directory_make_parents(const char *path, struct error *err)
{
    CLEANUP_FREE char *dir = directory_of(path);

    return directory_make(dir) ||
           error_set(err, ERROR_UNAVAILABLE, "cannot make directory %s: %s", dir, strerror(errno));
}
