/* Where a sandbox starts, where it does not, and that it says why. */
#include "test_sandbox_jobs.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>

static bool preload_fails(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "no codecs");
}

static bool preload_crashes(struct error *err)
{
    abort();
}

static void *wait_for_ever(void *ignored)
{
    for (;;)
        pause();
    return ignored;
}

static bool preload_leaves_a_thread(struct error *err)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, wait_for_ever, NULL) == 0;
}

static bool state_fails(void **state, struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "no state");
}

static bool state_is_forbidden(void **state, struct error *err)
{
    return socket(AF_INET, SOCK_STREAM, 0) >= 0 || error_set(err, ERROR_INTERNAL, "no socket");
}

static const struct sandbox_code *code_to_try;
static const char *message_to_see;

static void fail_to_start(int fd)
{
    struct sandbox *sandbox = started(code_to_try);
    struct error err = {0};

    for (int i = 0; i < 2; i++) {
        if (sandbox_process_new(sandbox, &(struct sandbox_limits){1, 1, MEMORY_MAX}, &err) != NULL)
            _exit(1);
        if (err.code != ERROR_UNAVAILABLE)
            _exit(2);
        if (i == 0 && strstr(err.message, message_to_see) == NULL)
            _exit((int)write(2, err.message, strlen(err.message)));
    }
    sandbox_stop(sandbox);
}

TEST(what_does_not_start_says_why)
{
    static const struct {
        struct sandbox_code code;
        const char *message;
    } cases[] = {
        {{.preload = preload_fails, .run = run_job}, "no codecs"},
        {{.preload = preload_crashes, .run = run_job}, "gone"},
#if !SANDBOX_SANITIZED
        {{.preload = preload_leaves_a_thread, .run = run_job}, "1 thread"},
#endif
        {{.state_new = state_fails, .run = run_job}, "no state"},
        {{.state_new = state_is_forbidden, .run = run_job}, "forbidden"},
    };

    SKIP_WITHOUT_PROC();
    (void)preload_leaves_a_thread;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        code_to_try = &cases[i].code;
        message_to_see = cases[i].message;
        assert_int_equal(status_of(fail_to_start, NULL), 0);
    }
}

/* A system that refuses these calls to this process and its children. */
static void refuse(const int *calls, size_t count, int error)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    for (size_t i = 0; i < count; i++) {
        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), calls[i], 0) != 0)
            _exit(30);
    }
    if (seccomp_load(filter) != 0)
        _exit(31);
    seccomp_release(filter);
}

/* Refuse seccomp(2), or only its question for what a filter may do. By hand, since libseccomp asks
 * once and remembers. The arguments' low half comes first on both of our architectures. */
static void refuse_seccomp(bool all)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP((unsigned)(BPF_JMP | BPF_K | (all ? BPF_JGE : BPF_JEQ)),
                 all ? 0 : SECCOMP_GET_ACTION_AVAIL, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)(all ? EPERM : EINVAL)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(32);
}

/* What Docker's profile and systemd's @privileged refuse, and what older kernels and gVisor do not
 * know. */
static void live_among_restrictions(bool no_seccomp_call)
{
    static const int refused[] = {
        SCMP_SYS(add_key), SCMP_SYS(bpf),    SCMP_SYS(keyctl),  SCMP_SYS(mount),
        SCMP_SYS(ptrace),  SCMP_SYS(setns),  SCMP_SYS(umount2), SCMP_SYS(unshare),
        SCMP_SYS(reboot),  SCMP_SYS(swapon), SCMP_SYS(capset),  SCMP_SYS(perf_event_open),
    };
    static const int unknown[] = {SCMP_SYS(clone3), 444, 445, 446}; /* Landlock's */
    struct sandbox_reply reply = {0};
    struct error err = {0};

    if (geteuid() == 0 && (setgid(4711) != 0 || setuid(4711) != 0))
        _exit(1);
    refuse_seccomp(no_seccomp_call);
    refuse(refused, ARRAY_SIZE(refused), EPERM);
    refuse(unknown, ARRAY_SIZE(unknown), ENOSYS);
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    assert_works(worker);
    if (call(worker, "exec", &reply, &err) || reply.loss.reason != SANDBOX_FORBIDDEN ||
        reply.loss.detail != SIGSYS)
        _exit(3);
    assert_works(worker);
    sandbox_process_free(worker);
    sandbox_stop(sandbox);
}

static void live_in_a_container(int fd)
{
    live_among_restrictions(false);
}

/* systemd's @system-service has prctl only. */
static void live_in_a_unit(int fd)
{
    live_among_restrictions(true);
}

TEST(it_works_among_restrictions)
{
    assert_int_equal(status_of(live_in_a_container, NULL), 0);
    assert_int_equal(status_of(live_in_a_unit, NULL), 0);
}

/* No filter, no worker. */
static void live_without_seccomp(int fd)
{
    scmp_filter_ctx filter;

    refuse_seccomp(true);
    filter = seccomp_init(SCMP_ACT_ALLOW);
    if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1,
                         SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP)) != 0 ||
        seccomp_load(filter) != 0)
        _exit(2);
    seccomp_release(filter);
    code_to_try = &job_code;
    message_to_see = "seccomp";
    fail_to_start(fd);
}

TEST(without_seccomp_nothing_starts)
{
    assert_int_equal(status_of(live_without_seccomp, NULL), 0);
}

/* Seen by parent and child. */
static struct {
    atomic_bool started, preloaded;
} * progress;

static bool preload_after_the_start(struct error *err)
{
    while (!progress->started)
        usleep(1000);
    usleep(50000);
    progress->preloaded = true;
    return true;
}

static void start_slowly(int fd)
{
    static const struct sandbox_code code = {.preload = preload_after_the_start, .run = run_job};

    progress =
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sandbox *sandbox = started(&code); /* would never end if it waited */
    progress->started = true;
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    if (!progress->preloaded)
        _exit(2);
    assert_works(worker);
    sandbox_process_free(worker);
    sandbox_stop(sandbox);
}

TEST(the_parent_does_not_wait_for_preload)
{
    assert_int_equal(status_of(start_slowly, NULL), 0);
}

static bool state_takes_its_time(void **state, struct error *err)
{
    usleep(50000);
    return true;
}

static void kill_what_starts(int fd)
{
    static const struct sandbox_code code = {.state_new = state_takes_its_time, .run = run_job};
    struct sandbox *sandbox = started(&code);
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {.output = BUFFER_MAX(4096)};
    struct error err = {0};

    for (int i = 0; i < 5; i++) {
        if (call(worker, "crash", &reply, &err)) /* the next one is being started */
            _exit(1);
        pid_t pid = sandbox_process_pid(worker);
        kill(pid, SIGKILL);
        assert_gone(pid); /* else it may take the call, had this process been held up till now */
        if (!call(worker, "echo", &reply, &err))
            _exit((int)write(2, err.message, strlen(err.message)));
        if (reply.loss.reason != SANDBOX_KILLED)
            _exit(3);
    }
    buffer_done(&reply.output);
    sandbox_process_free(worker);
    sandbox_stop(sandbox);
}

/* By whomever: the next call gets another one. */
TEST(killed_before_it_is_ready)
{
    assert_int_equal(status_of(kill_what_starts, NULL), 0);
}

TEST_MAIN(NULL, NULL)
