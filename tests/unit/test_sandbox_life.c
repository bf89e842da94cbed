/* The zygote's life and what is left when anybody dies. */
#include "test_sandbox_jobs.h"

#include <seccomp.h>
#include <stdio.h>

/* Run `body` in a process of its own, as a service would be: one thread, one sandbox. */
static int status_of(void (*body)(int fd), int *pid_fd)
{
    int fds[2], status;

    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        body(fds[1]);
        _exit(0);
    }
    close(fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (pid_fd != NULL)
        *pid_fd = fds[0];
    else
        close(fds[0]);
    return status;
}

static struct sandbox *started(const struct sandbox_code *code)
{
    struct error err = {0};
    struct sandbox *sandbox = sandbox_start(code, &err);

    if (sandbox == NULL)
        _exit(20);
    return sandbox;
}

static pid_t zygote_of(struct sandbox_worker *worker)
{
    char path[64], text[512];
    int ppid = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", sandbox_worker_pid(worker));
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL ||
        sscanf(strrchr(text, ')'), ") %*c %d", &ppid) != 1)
        _exit(21);
    fclose(file);
    return ppid;
}

/* Whether it is there and no zombie. */
static bool is_running(pid_t pid)
{
    char path[64], text[512], status = 'Z';

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    if (fgets(text, sizeof(text), file) != NULL && strrchr(text, ')') != NULL)
        sscanf(strrchr(text, ')'), ") %c", &status);
    fclose(file);
    return status != 'Z' && status != 'X';
}

static void assert_gone(pid_t pid)
{
    int64_t deadline_ms = clock_monotonic_ms() + 10000;

    while (is_running(pid) && clock_left_ms(deadline_ms) > 0)
        usleep(1000);
    assert_false(is_running(pid));
}

static void *spin_main(void *worker)
{
    struct sandbox_reply reply = {0};
    struct error err = {0};

    (void)!call(worker, "spin", &reply, &err);
    return NULL;
}

/* Idle and busy workers, and the parent dies of SIGKILL. */
static void die_suddenly(int fd)
{
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_worker *workers[4];
    pthread_t thread;
    pid_t pids[5];

    for (int i = 0; i < 4; i++) {
        workers[i] = worker_of(sandbox, 4096);
        pids[i] = sandbox_worker_pid(workers[i]);
    }
    pids[4] = zygote_of(workers[0]);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread, NULL, spin_main, workers[i]);
    usleep(50000);
    (void)!write(fd, pids, sizeof(pids));
    kill(getpid(), SIGKILL);
}

static void nothing_outlives_the_parent(void **state)
{
    pid_t pids[5];
    int fd, status = status_of(die_suddenly, &fd);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(fd, pids, sizeof(pids)), sizeof(pids));
    close(fd);
    for (int i = 0; i < 5; i++)
        assert_gone(pids[i]);
}

static void *kill_soon(void *pid)
{
    usleep(50000);
    kill(*(pid_t *)pid, SIGKILL);
    return NULL;
}

/* A call in progress, and later ones, are refused as passing faults: never the image's. */
static void lose_the_zygote(int fd)
{
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_worker *worker = worker_of(sandbox, 4096), *idle = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    pid_t zygote = zygote_of(worker);
    pthread_t thread;
    struct error err = {0};

    (void)fd;
    if (!sandbox_alive(sandbox))
        _exit(1);
    pthread_create(&thread, NULL, kill_soon, &zygote);
    if (call(worker, "spin", &reply, &err) || err.code != ERROR_UNAVAILABLE)
        _exit(2);
    pthread_join(thread, NULL);
    if (call(worker, "echo", &reply, &err) || err.code != ERROR_UNAVAILABLE)
        _exit(3);
    if (call(idle, "echo", &reply, &err) || err.code != ERROR_UNAVAILABLE)
        _exit(4);
    if (sandbox_alive(sandbox))
        _exit(5);
    if (sandbox_worker_new(sandbox, &(struct sandbox_limits){1, 1, MEMORY_MAX}, &err) != NULL)
        _exit(6);
    sandbox_worker_free(worker);
    sandbox_worker_free(idle);
    sandbox_stop(sandbox);
}

static void a_lost_zygote_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(status_of(lose_the_zygote, NULL), 0);
}

/* Ctrl-C and a service manager's SIGTERM reach the whole group; the parent decides. */
static void get_signals(int fd)
{
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_worker *worker = worker_of(sandbox, 4096);
    pid_t pid = sandbox_worker_pid(worker);

    (void)fd;
    kill(zygote_of(worker), SIGTERM);
    kill(zygote_of(worker), SIGINT);
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    usleep(50000);
    assert_works(worker);
    if (sandbox_worker_pid(worker) != pid)
        _exit(1);
    sandbox_worker_free(worker);
    sandbox_stop(sandbox);
}

static void a_groups_signals_are_the_parents(void **state)
{
    (void)state;
    assert_int_equal(status_of(get_signals, NULL), 0);
}

static bool preload_fails(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "no codecs");
}

static bool preload_crashes(struct error *err)
{
    (void)err;
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

    (void)err;
    return pthread_create(&thread, NULL, wait_for_ever, NULL) == 0;
}

static bool state_fails(void **state, struct error *err)
{
    (void)state;
    return error_set(err, ERROR_INTERNAL, "no state");
}

static bool state_is_forbidden(void **state, struct error *err)
{
    (void)state;
    return socket(AF_INET, SOCK_STREAM, 0) >= 0 || error_set(err, ERROR_INTERNAL, "no socket");
}

static const struct sandbox_code *code_to_try;
static const char *message_to_see;

static void fail_to_start(int fd)
{
    struct sandbox *sandbox = started(code_to_try);
    struct error err = {0};

    (void)fd;
    for (int i = 0; i < 2; i++) {
        if (sandbox_worker_new(sandbox, &(struct sandbox_limits){1, 1, MEMORY_MAX}, &err) != NULL)
            _exit(1);
        if (err.code != ERROR_UNAVAILABLE)
            _exit(2);
        if (i == 0 && strstr(err.message, message_to_see) == NULL)
            _exit((int)write(2, err.message, strlen(err.message)));
    }
    sandbox_stop(sandbox);
}

static void what_does_not_start_says_why(void **state)
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

    (void)state;
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

/* What Docker's profile refuses, and of what gVisor does not know. */
static void live_in_a_container(int fd)
{
    static const int refused[] = {
        SCMP_SYS(add_key), SCMP_SYS(bpf),    SCMP_SYS(keyctl),  SCMP_SYS(mount),
        SCMP_SYS(ptrace),  SCMP_SYS(setns),  SCMP_SYS(umount2), SCMP_SYS(unshare),
        SCMP_SYS(reboot),  SCMP_SYS(swapon), SCMP_SYS(acct),    SCMP_SYS(perf_event_open),
    };
    static const int unknown[] = {SCMP_SYS(clone3), 444, 445, 446}; /* Landlock's */
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    struct sandbox_reply reply = {0};
    struct error err = {0};

    (void)fd;
    if (geteuid() == 0 && (setgid(4711) != 0 || setuid(4711) != 0))
        _exit(1);
    refuse(refused, ARRAY_SIZE(refused), EPERM);
    refuse(unknown, ARRAY_SIZE(unknown), ENOSYS);
    /* SECCOMP_GET_ACTION_AVAIL */
    if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(seccomp), 1,
                         SCMP_A0(SCMP_CMP_EQ, 2)) != 0 ||
        seccomp_load(filter) != 0)
        _exit(2);
    seccomp_release(filter);
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_worker *worker = worker_of(sandbox, 4096);
    assert_works(worker);
    if (call(worker, "exec", &reply, &err) || reply.loss.reason != SANDBOX_FORBIDDEN ||
        reply.loss.detail != SIGSYS)
        _exit(3);
    assert_works(worker);
    sandbox_worker_free(worker);
    sandbox_stop(sandbox);
}

static void it_works_in_a_container(void **state)
{
    (void)state;
    assert_int_equal(status_of(live_in_a_container, NULL), 0);
}

/* No filter, no worker. */
static void live_without_seccomp(int fd)
{
    static const int refused[] = {SCMP_SYS(seccomp)};

    code_to_try = &job_code;
    message_to_see = "seccomp";
    refuse(refused, 1, EPERM);
    fail_to_start(fd);
}

static void without_seccomp_nothing_starts(void **state)
{
    (void)state;
    assert_int_equal(status_of(live_without_seccomp, NULL), 0);
}

static bool preload_slowly(struct error *err)
{
    (void)err;
    usleep(300000);
    return true;
}

static void start_slowly(int fd)
{
    static const struct sandbox_code code = {.preload = preload_slowly, .run = run_job};
    int64_t start_ms = clock_monotonic_ms();
    struct sandbox *sandbox = started(&code);

    (void)fd;
    if (clock_monotonic_ms() - start_ms > 200)
        _exit(1);
    struct sandbox_worker *worker = worker_of(sandbox, 4096);
    if (clock_monotonic_ms() - start_ms < 300)
        _exit(2);
    assert_works(worker);
    sandbox_worker_free(worker);
    sandbox_stop(sandbox);
}

static void the_parent_does_not_wait_for_preload(void **state)
{
    (void)state;
    assert_int_equal(status_of(start_slowly, NULL), 0);
}

static void stop_with_workers(int fd)
{
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_worker *worker = worker_of(sandbox, 4096);
    pid_t pids[2] = {sandbox_worker_pid(worker), zygote_of(worker)};

    sandbox_stop(NULL);
    sandbox_stop(sandbox);
    (void)!write(fd, pids, sizeof(pids));
}

static void stopping_ends_all(void **state)
{
    pid_t pids[2];
    int fd;

    (void)state;
    assert_int_equal(status_of(stop_with_workers, &fd) & ~0xff00, 0);
    assert_int_equal(read(fd, pids, sizeof(pids)), sizeof(pids));
    close(fd);
    assert_gone(pids[0]);
    assert_gone(pids[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_outlives_the_parent),
        cmocka_unit_test(a_lost_zygote_is_noticed),
        cmocka_unit_test(a_groups_signals_are_the_parents),
        cmocka_unit_test(what_does_not_start_says_why),
        cmocka_unit_test(it_works_in_a_container),
        cmocka_unit_test(without_seccomp_nothing_starts),
        cmocka_unit_test(the_parent_does_not_wait_for_preload),
        cmocka_unit_test(stopping_ends_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
