/* The bad things that a worker of the tests can do: attacks, losses, nonsense. */
#pragma once

#include "../test_cases.h"
#include "base/clock.h"
#include "sandbox/sandbox.h"
#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { FAR_MS = 60000, INPUT_MAX = 64 << 20, MEMORY_MAX = 512 << 20 };

/* The memory that held the parent's secret, and the parent itself. */
static const char *job_secret = "";
static pid_t job_parent;
static int job_calls;

struct job_call {
    const struct sandbox_request *request;
    struct sandbox_reply *reply;
    struct error *err;
};

static bool answer_errno(struct job_call *c, bool worked)
{
    int n = worked ? 0 : errno;

    memcpy(c->reply->answer, &n, sizeof(n));
    c->reply->answer_len = sizeof(n);
    return true;
}

static bool job_foreign_error(struct job_call *c)
{
    return error_set(c->err, ERROR_UNAUTHORIZED, "log in again");
}

static bool job_open(struct job_call *c)
{
    return answer_errno(c, open("/etc/passwd", O_RDONLY) >= 0);
}

static bool job_create(struct job_call *c)
{
    return answer_errno(c, open("/tmp/darkroom-escaped", O_WRONLY | O_CREAT, 0600) >= 0);
}

static bool job_stat(struct job_call *c)
{
    struct stat st;
    return answer_errno(c, stat("/etc/passwd", &st) == 0);
}

static bool job_socket(struct job_call *c)
{
    return answer_errno(c, socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static bool job_connect(struct job_call *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
    return answer_errno(c, connect(SANDBOX_FD, (struct sockaddr *)&to, sizeof(to)) == 0);
}

static bool job_send_fd(struct job_call *c)
{
    int fd = 0;
    return answer_errno(c, channel_send_fds(SANDBOX_FD, bytes_of("", 1), &fd, 1));
}

static bool job_exec(struct job_call *c)
{
    execl("/bin/true", "true", NULL);
    return answer_errno(c, false);
}

static bool job_fork(struct job_call *c)
{
    /* without the handlers of the C library and the sanitizers */
    return answer_errno(c, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= 0);
}

static bool job_namespace(struct job_call *c)
{
    return answer_errno(c, unshare(CLONE_NEWUSER) == 0);
}

static bool job_kill_parent(struct job_call *c)
{
    return answer_errno(c, kill(job_parent, SIGKILL) == 0);
}

static bool job_tgkill_parent(struct job_call *c)
{
    return answer_errno(c, syscall(SYS_tgkill, job_parent, job_parent, SIGABRT) == 0);
}

static bool job_ptrace(struct job_call *c)
{
    return answer_errno(c, ptrace(PTRACE_ATTACH, job_parent, NULL, NULL) == 0);
}

static bool job_read_parent(struct job_call *c)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {&job_parent, 1};
    return answer_errno(c, process_vm_readv(job_parent, &here, 1, &there, 1, 0) == 1);
}

static bool job_map_code(struct job_call *c)
{
    return answer_errno(c, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != -1);
}

static bool job_make_code(struct job_call *c)
{
    void *page = (void *)((uintptr_t)c->reply->output.data & ~(uintptr_t)4095);
    return answer_errno(c, syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC) == 0);
}

static bool job_share_memory(struct job_call *c)
{
    return answer_errno(c, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0) != -1);
}

static bool job_new_filter(struct job_call *c)
{
    return answer_errno(c, syscall(SYS_seccomp, 1, 0, NULL) == 0);
}

#ifdef __x86_64__
/* getpid by the 32-bit way in: 20 */
static bool job_other_architecture(struct job_call *c)
{
    long ret;

    __asm__ volatile("int $0x80" : "=a"(ret) : "a"(20L) : "memory");
    return answer_errno(c, ret > 0);
}
#endif

static bool job_allocate(struct job_call *c)
{
    /* by the kernel's measure, not by a sanitizer's */
    void *p = (void *)syscall(SYS_mmap, NULL, 4UL << 30, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return answer_errno(c, p != MAP_FAILED);
}

/* Many small pieces, each written to. */
static bool job_allocate_all(struct job_call *c)
{
    enum { PIECE = 1 << 20 };
    int pieces = 0;
    uint8_t *p;

    while (pieces < 8192 &&
           (p = (uint8_t *)syscall(SYS_mmap, NULL, PIECE, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) != MAP_FAILED) {
        memset(p, 1, PIECE);
        pieces++;
    }
    memcpy(c->reply->answer, &pieces, sizeof(pieces));
    c->reply->answer_len = sizeof(pieces);
    return true;
}

static bool job_spin(struct job_call *c)
{
    for (volatile int i = 0;; i++)
        ;
    return false;
}

static bool job_spin_politely(struct job_call *c)
{
    while (!atomic_load(c->request->cancelled))
        ;
    return error_set(c->err, ERROR_DEADLINE, "stopped");
}

static bool job_sleep(struct job_call *c)
{
    for (;;)
        sleep(100);
    return false;
}

static bool job_crash(struct job_call *c)
{
    raise(SIGSEGV); /* a sanitizer would make something else of the real thing */
    return false;
}

static bool job_abort(struct job_call *c)
{
    abort();
}

static bool job_trap(struct job_call *c)
{
    __builtin_trap();
}

static bool job_exit(struct job_call *c)
{
    _exit(3);
}

static bool job_overrun(struct job_call *c)
{
    volatile uint8_t *p = c->reply->output.data;

    for (size_t i = 0;; i++)
        p[i] = 1;
    return false;
}

static bool job_write_input(struct job_call *c)
{
    *(volatile uint8_t *)(uintptr_t)c->request->input.data = 1;
    return true;
}

static bool job_bad_length(struct job_call *c)
{
    c->reply->output.len = c->reply->output.max + 1;
    return true;
}

static bool job_bad_answer(struct job_call *c)
{
    c->reply->answer_len = SANDBOX_ANSWER_MAX + 1;
    return true;
}

static bool job_short_message(struct job_call *c)
{
    (void)!write(SANDBOX_FD, "hello", 5);
    return true;
}

static bool job_long_message(struct job_call *c)
{
    static const char text[8192];

    (void)!write(SANDBOX_FD, text, sizeof(text));
    return true;
}

/* A second, well-made reply that nobody asked for; then the real one. */
static bool job_reply_twice(struct job_call *c)
{
    struct sandbox_reply_message early = {.sequence = 77};

    (void)!write(SANDBOX_FD, &early, sizeof(early));
    return true;
}

static void *unasked(void *ignored)
{
    struct sandbox_reply_message late = {.sequence = 2};

    usleep(20000);
    (void)!write(SANDBOX_FD, &late, sizeof(late));
    return NULL;
}

static bool job_reply_later(struct job_call *c)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, unasked, NULL) == 0;
}

static void *die(void *ignored)
{
    usleep(20000);
    /* ThreadSanitizer's _exit waits a second for others */
    syscall(SYS_exit_group, 4);
    return NULL;
}

static bool job_die_later(struct job_call *c)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, die, NULL) == 0;
}

static bool job_close(struct job_call *c)
{
    return answer_errno(c, close(SANDBOX_FD) == 0);
}

/* 1 GB to stderr, if it would be written. */
static bool job_flood(struct job_call *c)
{
    static const char text[1 << 20];
    bool written = true;

    for (int i = 0; i < 1024 && written; i++)
        written = write(SANDBOX_SANITIZED ? 1 : 2, text, sizeof(text)) > 0;
    return answer_errno(c, written);
}
