/* LD_PRELOAD: what a disk does wrong, on demand, for one process. Which call fails, and how, stands
 * in the file that $DISK_FAULTS names, shared with the test (tests/integration/disk.py). Standard
 * input, output and error are left alone. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OP_WRITE = 1, OP_SYNC = 2, OP_READ = 4, OP_NAME = 8 /* link, rename, unlink, truncate */ };
enum { DIE = -1 };

/* As disk.py packs it. */
struct control {
    int ops;                              /* any of the above; 0: nothing fails */
    int error;                            /* errno, or DIE */
    atomic_int skip;                      /* so many calls succeed first */
    atomic_int count;                     /* then so many fail */
    atomic_int failed;                    /* so many have */
    int torn;                             /* half of a failing write is written */
    char pattern[4096 - 6 * sizeof(int)]; /* fnmatch, of the file's path */
};

static struct control *control;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("DISK_FAULTS");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    control = map != MAP_FAILED ? map : NULL;
}

/* Whether this call is to fail. */
static int fails(int op, int fd, const char *name)
{
    char link[64], path[PATH_MAX * 2] = "";

    if (control == NULL || (control->ops & op) == 0 || (fd >= 0 && fd <= 2))
        return 0;
    if (fd >= 0 && (name == NULL || *name != '/')) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, PATH_MAX - 1);
        path[len > 0 ? len : 0] = '\0';
    }
    if (name != NULL)
        snprintf(path + strlen(path), PATH_MAX, "%s%s", *path != '\0' ? "/" : "", name);
    if (fnmatch(control->pattern, path, 0) != 0 || atomic_fetch_sub(&control->skip, 1) > 0 ||
        atomic_fetch_sub(&control->count, 1) <= 0)
        return 0;
    atomic_fetch_add(&control->failed, 1);
    if (control->error == DIE)
        kill(getpid(), SIGKILL);
    errno = control->error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Half of a write that fails, and then its error. */
#define TORN(call)                                                                                 \
    do {                                                                                           \
        int error = errno;                                                                         \
        if (control->torn && (call) < 0)                                                           \
            return -1;                                                                             \
        errno = error;                                                                             \
        return -1;                                                                                 \
    } while (0)

ssize_t write(int fd, const void *data, size_t len)
{
    if (fails(OP_WRITE, fd, NULL))
        TORN(REAL(write)(fd, data, len / 2));
    return REAL(write)(fd, data, len);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    if (fails(OP_WRITE, fd, NULL))
        TORN(REAL(pwrite)(fd, data, len / 2, at));
    return REAL(pwrite)(fd, data, len, at);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    if (fails(OP_WRITE, fd, NULL))
        TORN(REAL(pwrite64)(fd, data, len / 2, at));
    return REAL(pwrite64)(fd, data, len, at);
}

ssize_t read(int fd, void *data, size_t len)
{
    return fails(OP_READ, fd, NULL) ? -1 : REAL(read)(fd, data, len);
}

ssize_t pread(int fd, void *data, size_t len, off_t at)
{
    return fails(OP_READ, fd, NULL) ? -1 : REAL(pread)(fd, data, len, at);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t at)
{
    return fails(OP_READ, fd, NULL) ? -1 : REAL(pread64)(fd, data, len, at);
}

int fsync(int fd)
{
    return fails(OP_SYNC, fd, NULL) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return fails(OP_SYNC, fd, NULL) ? -1 : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t len)
{
    return fails(OP_NAME, fd, NULL) ? -1 : REAL(ftruncate)(fd, len);
}

int ftruncate64(int fd, off64_t len)
{
    return fails(OP_NAME, fd, NULL) ? -1 : REAL(ftruncate64)(fd, len);
}

int link(const char *from, const char *to)
{
    return fails(OP_NAME, -1, to) ? -1 : REAL(link)(from, to);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return fails(OP_NAME, to_dir, to) ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
}

int rename(const char *from, const char *to)
{
    return fails(OP_NAME, -1, to) ? -1 : REAL(rename)(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return fails(OP_NAME, to_dir, to) ? -1 : REAL(renameat)(from_dir, from, to_dir, to);
}

int unlink(const char *path)
{
    return fails(OP_NAME, -1, path) ? -1 : REAL(unlink)(path);
}

int unlinkat(int dir, const char *path, int flags)
{
    return fails(OP_NAME, dir, path) ? -1 : REAL(unlinkat)(dir, path, flags);
}
