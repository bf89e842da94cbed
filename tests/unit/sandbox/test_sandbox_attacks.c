/* Workers that attack: each contained, and the neighbours' work goes on. */
#include "test_sandbox_jobs.h"

#include <stdio.h>

enum { NEIGHBOURS = 3 };

static struct sandbox *sandbox;

static struct attack {
    const char *name;
    enum sandbox_loss_reason reason; /* KEPT: the call is answered with `detail` as errno */
    int detail;
} attacks[] = {
    {"open", SANDBOX_KEPT, EACCES},
    {"create", SANDBOX_KEPT, EACCES},
    {"stat", SANDBOX_KEPT, EACCES},
    {"close", SANDBOX_KEPT, EBADF},
    {"flood", SANDBOX_KEPT, EBADF},
    {"socket", SANDBOX_FORBIDDEN, SIGSYS},
    {"connect", SANDBOX_FORBIDDEN, SIGSYS},
    {"send_fd", SANDBOX_FORBIDDEN, SIGSYS},
    {"exec", SANDBOX_FORBIDDEN, SIGSYS},
    {"fork", SANDBOX_FORBIDDEN, SIGSYS},
    {"namespace", SANDBOX_FORBIDDEN, SIGSYS},
    {"kill_parent", SANDBOX_FORBIDDEN, SIGSYS},
    {"tgkill_parent", SANDBOX_FORBIDDEN, SIGSYS},
    {"ptrace", SANDBOX_FORBIDDEN, SIGSYS},
    {"read_parent", SANDBOX_FORBIDDEN, SIGSYS},
    {"map_code", SANDBOX_FORBIDDEN, SIGSYS},
    {"make_code", SANDBOX_FORBIDDEN, SIGSYS},
    {"share_memory", SANDBOX_FORBIDDEN, SIGSYS},
    {"new_filter", SANDBOX_FORBIDDEN, SIGSYS},
    {"capget", SANDBOX_FORBIDDEN, SIGSYS},
#ifdef __x86_64__
    {"other_architecture", SANDBOX_FORBIDDEN, SIGSYS},
#endif
    {"crash", SANDBOX_CRASHED, SIGSEGV},
    {"abort", SANDBOX_CRASHED, SIGABRT},
    {"trap", SANDBOX_CRASHED, 0},
    {"overrun", SANDBOX_CRASHED, SIGBUS},
    {"write_input", SANDBOX_CRASHED, SIGSEGV},
    {"exit", SANDBOX_EXITED, 3},
    {"bad_length", SANDBOX_NONSENSE, 0},
    {"bad_answer", SANDBOX_NONSENSE, 0},
    {"short_message", SANDBOX_NONSENSE, 0},
    {"long_message", SANDBOX_NONSENSE, 0},
    {"reply_twice", SANDBOX_NONSENSE, 0},
    {"foreign_error", SANDBOX_NONSENSE, 0},
    {"spin", SANDBOX_TIMED_OUT, 0},
    {"sleep", SANDBOX_TIMED_OUT, 0},
#if !SANDBOX_SANITIZED
    {"allocate", SANDBOX_KEPT, ENOMEM},
#endif
};

static void attack_with(struct sandbox_process *worker, const struct attack *a)
{
    bool late = a->reason == SANDBOX_TIMED_OUT;
    struct sandbox_reply reply = {0};
    struct error err = {0};
    struct sandbox_request job = {
        .options = bytes_from_str(a->name),
        .deadline_ms = clock_monotonic_ms() + (late ? 50 : FAR_MS),
    };
    bool ok = sandbox_call(worker, &job, &reply, &err);

    if (reply.loss.reason != a->reason || ok != (a->reason == SANDBOX_KEPT))
        fail_msg("%s: %s (%d), %s", a->name, sandbox_loss_name(reply.loss.reason),
                 reply.loss.detail, ok ? "answered" : err.message);
    if (ok) {
        int n;
        assert_int_equal(reply.answer_len, sizeof(n));
        memcpy(&n, reply.answer, sizeof(n));
        if (n != a->detail)
            fail_msg("%s: errno %d", a->name, n);
        return;
    }
    assert_int_equal(err.code, late ? ERROR_DEADLINE : ERROR_BAD_IMAGE);
    if (a->detail != 0)
        assert_int_equal(reply.loss.detail, a->detail);
}

/* Normal work on a worker of its own, until told to stop. */
struct neighbour {
    struct sandbox_process *worker;
    pthread_t thread;
    atomic_bool *stop;
    int done, failed;
};

static void *neighbour_main(void *arg)
{
    static const uint8_t input[200000];
    struct neighbour *n = arg;
    struct sandbox_reply reply = {.output = BUFFER_MAX(1 << 20)};
    struct error err = {0};
    pid_t pid = sandbox_process_pid(n->worker);

    while (!atomic_load(n->stop)) {
        bool ok =
            sandbox_call(n->worker,
                         &(struct sandbox_request){.options = bytes_from_str("sum"),
                                                   .input = bytes_of(input, sizeof(input)),
                                                   .deadline_ms = clock_monotonic_ms() + FAR_MS},
                         &reply, &err);
        n->done++;
        n->failed += !ok || reply.output.len != 30000 || sandbox_process_pid(n->worker) != pid;
        usleep(500); /* the machine is others', too */
    }
    buffer_done(&reply.output);
    return NULL;
}

/* As another user, when root: what a service in a container is. First, because it forks. */
TEST(without_privileges)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct error err = {0};

        if (geteuid() == 0 && (setgid(4711) != 0 || setuid(4711) != 0))
            _exit(10);
        job_parent = getpid();
        sandbox = sandbox_start(&job_code, &err);
        if (sandbox == NULL)
            _exit(11);
        struct sandbox_process *worker = worker_of(sandbox, 4096);
        for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
            attack_with(worker, &attacks[i]);
            assert_works(worker);
        }
        sandbox_process_free(worker);
        sandbox_stop(sandbox);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

TEST(neighbours_do_not_notice)
{
    struct neighbour neighbours[NEIGHBOURS] = {0};
    struct sandbox_process *victim = worker_of(sandbox, 1 << 20);
    atomic_bool stop = false;

    for (int i = 0; i < NEIGHBOURS; i++) {
        neighbours[i].worker = worker_of(sandbox, 1 << 20);
        neighbours[i].stop = &stop;
        assert_int_equal(
            pthread_create(&neighbours[i].thread, NULL, neighbour_main, &neighbours[i]), 0);
    }
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
            attack_with(victim, &attacks[i]);
            assert_works(victim);
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < NEIGHBOURS; i++) {
        pthread_join(neighbours[i].thread, NULL);
        assert_int_equal(neighbours[i].failed, 0);
        assert_in_range(neighbours[i].done, 100, INT32_MAX);
        sandbox_process_free(neighbours[i].worker);
    }
    sandbox_process_free(victim);
}

#if !SANDBOX_SANITIZED
/* Every page that it can get: no more than the limit. */
TEST(memory_has_a_limit)
{
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    struct error err = {0};
    int pieces;

    assert_true(call(worker, "allocate_all", &reply, &err));
    memcpy(&pieces, reply.answer, sizeof(pieces));
    assert_in_range(pieces, MEMORY_MAX / 2 >> 20, MEMORY_MAX >> 20);
    sandbox_process_free(worker);
}
#endif

int main(void)
{
    struct error err = {0};

    job_parent = getpid();
    sandbox = sandbox_start(&job_code, &err);
    if (sandbox == NULL)
        return 1;
    int failed = cmocka_run_group_tests(test_cases, NULL, NULL);
    sandbox_stop(sandbox);
    return failed;
}
