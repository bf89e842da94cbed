#include "events/outbox/outbox_file.h"

#include "base/clock.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { LOCK_POLL_MS = 50 };

int64_t outbox_file_size(const char *path, const char *suffix)
{
    char name[OUTBOX_NAME_MAX];
    struct stat st;

    snprintf(name, sizeof(name), "%s%s", path, suffix);
    return stat(name, &st) == 0 ? st.st_size : -1;
}

bool outbox_file_sync_directory(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *dir =
        slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    CLEANUP_CLOSE int fd = dir != NULL ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0 || fsync(fd) != 0)
        return error_set(err, ERROR_UNAVAILABLE, "directory of %s: %s", path, strerror(errno));
    return true;
}

bool outbox_file_make_parents(const char *path, struct error *err)
{
    CLEANUP_FREE char *dir = xstrdup(path);

    for (char *p = dir + 1; *dir != '\0' && (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        if (mkdir(dir, 0777) == 0) {
            if (!outbox_file_sync_directory(dir, err))
                return false;
        } else if (errno != EEXIST) {
            return error_set(err, ERROR_CONFIG, "cannot make directory %s: %s", dir,
                             strerror(errno));
        }
        *p = '/';
    }
    return true;
}

int outbox_file_lock(const char *path, int64_t wait_ms, bool *used_before, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + wait_ms;
    char name[OUTBOX_NAME_MAX];

    snprintf(name, sizeof(name), "%s.lock", path);
    *used_before = access(name, F_OK) == 0;
    CLEANUP_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        error_set(err, ERROR_CONFIG, "cannot open %s: %s", name, strerror(errno));
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            error_set(err, ERROR_CONFIG, "cannot lock %s: %s", name, strerror(errno));
            return -1;
        }
        if (clock_left_ms(deadline_ms) == 0) {
            error_set(err, ERROR_CONFIG, "another process holds %s: one outbox serves one service",
                      name);
            return -1;
        }
        clock_pause(LOCK_POLL_MS);
    }
    int held = fd;
    fd = -1;
    return held;
}
