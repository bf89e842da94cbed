#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { NOBODY = 65534, STACK_MAX = 8 * 1024 * 1024 };

static bool failed(struct error *err, const char *step)
{
    return error_set(err, ERROR_UNAVAILABLE, "%s: %s", step, strerror(errno));
}

static bool close_descriptors(struct error *err)
{
    if (close_range(SANDBOX_FD + 1, ~0U, 0) != 0)
        return failed(err, "close_range");
    /* a sanitizer's reports are wanted */
    return close_range(0, SANDBOX_SANITIZED ? 1 : 2, 0) == 0 || failed(err, "close_range");
}

/* No file can be opened, made or renamed, where the kernel has Landlock (5.13): the filter allows
 * none of it anyway. Newer rights than these need a newer kernel and are not worth asking for. */
static void deny_files(void)
{
    struct landlock_ruleset_attr attr = {.handled_access_fs =
                                             (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    CLEANUP_CLOSE int fd =
        (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);

    if (fd >= 0)
        (void)syscall(SYS_landlock_restrict_self, fd, 0);
}

/* Of root only the name is left where no other user is mapped (EINVAL, EPERM: user namespaces). */
static bool drop_privileges(struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    struct __user_cap_data_struct left[_LINUX_CAPABILITY_U32S_3] = {0};

    if (geteuid() == 0) {
        (void)setgroups(0, NULL);
        if ((setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) &&
            errno != EINVAL && errno != EPERM)
            return failed(err, "setresuid");
    }
    /* a service manager may refuse this to who has none anyway */
    (void)syscall(SYS_capset, &header, none);
    if (syscall(SYS_capget, &header, left) != 0)
        return failed(err, "capget");
    for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
        if ((left[i].permitted | left[i].effective | left[i].inheritable) != 0)
            return error_set(err, ERROR_UNAVAILABLE, "capset: some capabilities stay");
    }
    return true;
}

/* Not RLIMIT_NPROC: it counts all threads of a user, whichever process they are in. How many
 * threads a process that was taken over can start is up to the container's or unit's limit. Not
 * RLIMIT_AS: threads reserve far more than they use; RLIMIT_DATA counts what is writable, and
 * the filter allows no mapping that it does not count. CPU time: the parent's clock. */
static bool set_limits(const struct sandbox_limits *limits, struct error *err)
{
    const struct {
        int resource; /* glibc's type of it is an enum in C */
        rlim_t value;
        const char *name;
    } table[] = {
        {RLIMIT_CORE, 0, "RLIMIT_CORE"},
        {RLIMIT_FSIZE, 0, "RLIMIT_FSIZE"},
        {RLIMIT_MEMLOCK, 0, "RLIMIT_MEMLOCK"},
        {RLIMIT_NOFILE, 0, "RLIMIT_NOFILE"}, /* no more than there are */
        {RLIMIT_STACK, STACK_MAX, "RLIMIT_STACK"},
        /* a sanitizer's shadow is terabytes of it */
        {RLIMIT_DATA, SANDBOX_SANITIZED ? RLIM_INFINITY : limits->memory_max, "RLIMIT_DATA"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct rlimit old, limit = {.rlim_cur = table[i].value, .rlim_max = table[i].value};

        /* one that is lower already is as good */
        if (getrlimit((__rlimit_resource_t)table[i].resource, &old) == 0 &&
            old.rlim_max <= limit.rlim_max)
            continue;
        if (setrlimit((__rlimit_resource_t)table[i].resource, &limit) != 0)
            return failed(err, table[i].name);
    }
    return true;
}

bool sandbox_lock(const struct sandbox_limits *limits, pid_t zygote, struct error *err)
{
    if (!close_descriptors(err) || !drop_privileges(err))
        return false;
    /* changing the user undid it */
    sandbox_die_with(zygote);
    /* no core dump, not even to a program; no ptrace by others of the same user */
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return failed(err, "PR_SET_DUMPABLE");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failed(err, "PR_SET_NO_NEW_PRIVS");
    deny_files();
    return set_limits(limits, err) && sandbox_filter(err);
}
