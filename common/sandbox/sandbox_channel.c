#include "base/clock.h"
#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { FDS_MAX = 4 };

union control {
    struct cmsghdr header; /* for its alignment */
    char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

bool channel_pair(int fds[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0)
        return true;
    return error_set(err, ERROR_UNAVAILABLE, "no socket for a process: %s", strerror(errno));
}

bool channel_send(int fd, const void *message, size_t len)
{
    return TEMP_FAILURE_RETRY(send(fd, message, len, MSG_NOSIGNAL)) == (ssize_t)len;
}

bool channel_send_fds(int fd, struct bytes message, const int *fds, size_t count)
{
    union control control = {0};
    uint8_t copy[sizeof(struct sandbox_zygote_message)];
    struct iovec iov = {.iov_base = copy, .iov_len = message.len};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    if (count > FDS_MAX || message.len > sizeof(copy))
        return false;
    memcpy(copy, message.data, message.len);
    header.msg_control = &control;
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    return TEMP_FAILURE_RETRY(sendmsg(fd, &header, MSG_NOSIGNAL)) == (ssize_t)message.len;
}

ssize_t channel_receive(int fd, void *message, size_t len)
{
    /* MSG_TRUNC: the real length, so that a message that is too long is not taken for a good one */
    return TEMP_FAILURE_RETRY(recv(fd, message, len, MSG_TRUNC));
}

/* Take over what arrived, whatever it is, so that nothing is left open. */
static size_t take_fds(struct msghdr *header, int *fds)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(header);
    size_t count = 0;

    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
    }
    return count;
}

bool channel_receive_fds(int fd, void *message, size_t len, int *fds, size_t count)
{
    union control control;
    struct iovec iov = {.iov_base = message, .iov_len = len};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    int taken[FDS_MAX];

    ssize_t n = TEMP_FAILURE_RETRY(recvmsg(fd, &header, MSG_CMSG_CLOEXEC));
    if (n < 0)
        return false;
    size_t n_fds = take_fds(&header, taken);
    if ((size_t)n == len && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
        (n_fds == count || n_fds == 0)) {
        for (size_t i = 0; i < count; i++)
            fds[i] = i < n_fds ? taken[i] : -1;
        return true;
    }
    for (size_t i = 0; i < n_fds; i++)
        close(taken[i]);
    return false;
}

bool channel_wait(int fd, int64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n;

    do {
        int64_t left = clock_left_ms(deadline_ms);

        n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
    } while ((n < 0 && errno == EINTR) || (n == 0 && clock_left_ms(deadline_ms) > 0));
    return n > 0;
}

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static bool round_up(size_t len, size_t *ret)
{
    size_t page = page_bytes();

    /* with room for the process's page at the end */
    if (len > (size_t)PTRDIFF_MAX - 2 * page)
        return false;
    *ret = len / page * page + (len % page != 0 || len == 0 ? page : 0);
    return true;
}

bool sandbox_memory_new(struct sandbox_memory *ret, size_t len, struct error *err)
{
    CLEANUP_CLOSE int fd = memfd_create("darkroom", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *data;

    if (!round_up(len, &len))
        return error_set(err, ERROR_TOO_LARGE, "a sandbox that large");
    /* whole pages from the start, none of them used before they are touched */
    if (fd < 0 || ftruncate(fd, (off_t)len) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return error_set(err, ERROR_UNAVAILABLE, "no shared memory: %s", strerror(errno));
    data = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return error_set(err, ERROR_UNAVAILABLE, "no shared memory: %s", strerror(errno));
    *ret = (struct sandbox_memory){.fd = fd, .data = data, .len = len};
    fd = -1;
    return true;
}

void sandbox_memory_done(struct sandbox_memory *memory)
{
    if (memory->data == NULL)
        return;
    munmap(memory->data, memory->len);
    close(memory->fd);
    *memory = (struct sandbox_memory){.fd = -1};
}

void sandbox_memory_drop(const struct sandbox_memory *memory, size_t offset)
{
    /* failing, the pages stay: at most what the limits allow */
    if (offset < memory->len)
        (void)!fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                         (off_t)(memory->len - offset));
}

uint8_t *sandbox_memory_map(int fd, size_t len, bool writable)
{
    void *data;

    if (!round_up(len, &len))
        return NULL;
    data = mmap(NULL, len + page_bytes(), writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                fd, 0);
    return data == MAP_FAILED ? NULL : data;
}
