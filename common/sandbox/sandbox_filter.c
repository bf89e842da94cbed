#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/* What decoding, scaling and encoding do, found with strace over libvips, libjpeg-turbo, libpng,
 * libwebp, libtiff, libheif, libaom and dav1d after the zygote's preload: memory, threads and
 * clocks. Everything that is in no list here kills the process (SIGSYS). */
static const int allowed[] = {
    SCMP_SYS(brk),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(getcpu),
    SCMP_SYS(getegid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(getrandom),
    SCMP_SYS(getresgid),
    SCMP_SYS(getresuid),
    SCMP_SYS(getrusage),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getuid),
    SCMP_SYS(madvise),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
    SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sysinfo),
    SCMP_SYS(time),
    SCMP_SYS(uname),
};

/* What libraries try and live without: told that it does not work. */
static const struct {
    int call, error;
} refused[] = {
    /* its flags are in memory, where a filter cannot look; glibc then takes clone */
    {SCMP_SYS(clone3), ENOSYS},
    {SCMP_SYS(get_mempolicy), ENOSYS},
    {SCMP_SYS(membarrier), ENOSYS},
    {SCMP_SYS(memfd_create), ENOSYS},
    {SCMP_SYS(mlock), EPERM},
    {SCMP_SYS(pkey_alloc), ENOSYS},
    {SCMP_SYS(sched_getattr), ENOSYS},
    {SCMP_SYS(sched_getparam), EPERM},
    {SCMP_SYS(sched_getscheduler), EPERM},
    {SCMP_SYS(sched_setaffinity), EPERM},
    {SCMP_SYS(sched_setattr), ENOSYS},
    {SCMP_SYS(sched_setscheduler), EPERM},
    {SCMP_SYS(setpriority), EPERM},
    /* files: configuration and number of CPUs that are optional */
    {SCMP_SYS(access), EACCES},
    {SCMP_SYS(faccessat), EACCES},
    {SCMP_SYS(faccessat2), EACCES},
    {SCMP_SYS(getcwd), EACCES},
    {SCMP_SYS(lstat), EACCES},
    {SCMP_SYS(newfstatat), EACCES},
    {SCMP_SYS(open), EACCES},
    {SCMP_SYS(openat), EACCES},
    {SCMP_SYS(openat2), ENOSYS},
    {SCMP_SYS(readlink), EACCES},
    {SCMP_SYS(readlinkat), EACCES},
    {SCMP_SYS(stat), EACCES},
    {SCMP_SYS(statfs), EACCES},
    {SCMP_SYS(statx), EACCES},
    /* descriptors, of which there are none */
    {SCMP_SYS(close), EBADF},
    {SCMP_SYS(fcntl), EBADF},
    {SCMP_SYS(fstat), EBADF},
    {SCMP_SYS(ioctl), EBADF},
    {SCMP_SYS(lseek), EBADF},
    {SCMP_SYS(pread64), EBADF},
    {SCMP_SYS(readv), EBADF},
    {SCMP_SYS(writev), EBADF},
};

/* A negative number is libseccomp's for a call that this architecture has not. */
static bool add(scmp_filter_ctx filter, uint32_t action, int call)
{
    return call < 0 || seccomp_rule_add(filter, action, call, 0) == 0;
}

static bool add_if(scmp_filter_ctx filter, uint32_t action, int call, struct scmp_arg_cmp a)
{
    return seccomp_rule_add_array(filter, action, call, 1, &a) == 0;
}

/* Only on the socket; anything else is told that it is closed. */
static bool add_descriptor_rules(scmp_filter_ctx filter)
{
    const int calls[] = {SCMP_SYS(read), SCMP_SYS(write)};

    for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
        bool ok = add_if(filter, SCMP_ACT_ALLOW, calls[i], SCMP_A0(SCMP_CMP_EQ, SANDBOX_FD));

        if (SANDBOX_SANITIZED) /* reports */
            ok = ok && add_if(filter, SCMP_ACT_ALLOW, calls[i], SCMP_A0(SCMP_CMP_EQ, 2)) &&
                 add_if(filter, SCMP_ACT_ERRNO(EBADF), calls[i], SCMP_A0(SCMP_CMP_LT, 2)) &&
                 add_if(filter, SCMP_ACT_ERRNO(EBADF), calls[i], SCMP_A0(SCMP_CMP_GT, SANDBOX_FD));
        else
            ok = ok &&
                 add_if(filter, SCMP_ACT_ERRNO(EBADF), calls[i], SCMP_A0(SCMP_CMP_NE, SANDBOX_FD));
        if (!ok)
            return false;
    }
    return true;
}

/* Threads as glibc makes them and no processes; memory that RLIMIT_DATA counts and that cannot be
 * executed; signals to itself (abort). */
static bool add_argument_rules(scmp_filter_ctx filter)
{
    const scmp_datum_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND |
                                CLONE_THREAD | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                CLONE_CHILD_CLEARTID;
    const struct scmp_arg_cmp map[] = {
        SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
        SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_TYPE | MAP_ANONYMOUS | MAP_GROWSDOWN,
                MAP_PRIVATE | MAP_ANONYMOUS),
    };
    const struct scmp_arg_cmp limits[] = {/* reading its own */
                                          SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0)};

    return add_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_EQ, thread)) &&
           seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, map) == 0 &&
           seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, limits) == 0 &&
           add_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect),
                  SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) &&
           add_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill),
                  SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())) &&
           add_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME)) &&
           add_if(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl),
                  SCMP_A0(SCMP_CMP_NE, PR_SET_NAME));
}

static bool add_rules(scmp_filter_ctx filter)
{
    for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
        if (!add(filter, SCMP_ACT_ALLOW, allowed[i]))
            return false;
    }
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (!add(filter, SCMP_ACT_ERRNO((uint32_t)refused[i].error), refused[i].call))
            return false;
    }
    return add_descriptor_rules(filter) && add_argument_rules(filter);
}

/* gVisor (Cloud Run's first generation) cannot kill the process. A trap is SIGSYS, too: the call is
 * not made either, but the process could catch it and go on. */
static scmp_filter_ctx new_filter(void)
{
    const uint32_t actions[] = {SCMP_ACT_KILL_PROCESS, SCMP_ACT_TRAP};

    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        scmp_filter_ctx filter = seccomp_init(actions[i]);

        if (filter == NULL)
            continue;
        /* calls of another architecture than this program's: x32 and i386 on x86-64 */
        if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, actions[i]) == 0)
            return filter;
        seccomp_release(filter);
    }
    return NULL;
}

bool sandbox_filter(struct error *err)
{
    scmp_filter_ctx filter = new_filter();
    int rc = -EINVAL;

    if (filter == NULL)
        return error_set(err, ERROR_UNAVAILABLE, "seccomp: not available");
    if (add_rules(filter))
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 || error_set(err, ERROR_UNAVAILABLE, "seccomp: %s", strerror(-rc));
}
