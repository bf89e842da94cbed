#include "events/outbox/outbox_db.h"

#include "base/clock.h"
#include "base/directory.h"

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
    CLEANUP_FREE char *dir = directory_of(path);

    return directory_sync(AT_FDCWD, dir) ||
           error_set(err, ERROR_UNAVAILABLE, "cannot sync directory %s: %s", dir, strerror(errno));
}

int outbox_file_lock(const char *path, int64_t wait_ms, bool *used_before, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + wait_ms;
    char name[OUTBOX_NAME_MAX];

    snprintf(name, sizeof(name), "%s.lock", path);
    *used_before = access(name, F_OK) == 0;
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK && clock_left_ms(deadline_ms) > 0) {
            clock_pause(LOCK_POLL_MS);
            continue;
        }
        int number = errno;
        close(fd);
        fd = -1;
        errno = number;
    }
    if (fd < 0 && errno == EWOULDBLOCK)
        error_set(err, ERROR_CONFIG,
                  "another process has it: stop that one or set another path; one outbox serves "
                  "one service");
    else if (fd < 0)
        error_set(err, ERROR_CONFIG, "cannot lock %s: %s", name, strerror(errno));
    return fd;
}
