#include "test_sandbox_jobs.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>

enum { HELD_UP_MAX = 20 };

static struct sandbox *sandbox;

static int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

/* Of all processes, those whose parent is `parent`. */
static int children_of(pid_t parent)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    int n = 0;

    while ((entry = readdir(dir)) != NULL) {
        char path[300], text[512] = "";
        FILE *file;
        int ppid = 0;

        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (file == NULL)
            continue;
        if (fgets(text, sizeof(text), file) != NULL && strrchr(text, ')') != NULL &&
            sscanf(strrchr(text, ')'), ") %*c %d", &ppid) == 1 && ppid == parent)
            n++;
        fclose(file);
    }
    closedir(dir);
    return n;
}

static int field_of(pid_t pid, const char *name)
{
    char path[64], line[256];
    int value = -1;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
            value = (int)strtol(line + strlen(name) + 1, NULL, name[0] == 'C' ? 16 : 10);
    }
    fclose(file);
    return value;
}

TEST(answers_and_outputs)
{
    struct sandbox_process *worker = worker_of(sandbox, 1 << 20);
    struct sandbox_reply reply = {.output = BUFFER_MAX(1 << 20)};
    struct error err = {0};

    for (int i = 0; i < 100; i++)
        assert_works(worker);
    assert_true(call(worker, "threads", &reply, &err));
    assert_int_equal(reply.answer_len, 1);
    assert_int_equal(reply.answer[0], 8);
    assert_int_equal(reply.output.len, 0);
    assert_int_equal(reply.loss.reason, SANDBOX_KEPT);
    buffer_done(&reply.output);
    sandbox_process_free(worker);
}

TEST(keeps_its_state)
{
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    struct error err = {0};

    for (int i = 1; i <= 3; i++) {
        assert_true(call(worker, "count", &reply, &err));
        assert_int_equal(reply.answer[0], i);
    }
    assert_false(call(worker, "crash", &reply, &err));
    assert_true(call(worker, "count", &reply, &err));
    assert_int_equal(reply.answer[0], 1);
    sandbox_process_free(worker);
}

TEST(all_sizes)
{
    static const size_t sizes[] = {0,         1,       4095,          4096,    4097,
                                   1048575,   1048576, 1048577,       3000001, 16 << 20,
                                   INPUT_MAX, 5,       INPUT_MAX - 1, 2 << 20, 0};
    struct sandbox_process *worker = worker_of(sandbox, INPUT_MAX);
    struct sandbox_reply reply = {.output = BUFFER_MAX(INPUT_MAX)};
    struct error err = {0};
    uint8_t *data = malloc(INPUT_MAX + 4096);
    struct sandbox_request job = {.options = bytes_from_str("echo"),
                                  .deadline_ms = clock_monotonic_ms() + FAR_MS};

    for (size_t i = 0; i < INPUT_MAX; i++)
        data[i] = (uint8_t)(i * 31 + i / 4096);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        job.input = bytes_of(data + i, sizes[i] - (sizes[i] == INPUT_MAX ? i : 0));
        assert_true(sandbox_call(worker, &job, &reply, &err));
        assert_true(bytes_equal(buffer_view(&reply.output), job.input));
    }
    job.input = bytes_of(data, INPUT_MAX + 1);
    assert_fails(err, ERROR_TOO_LARGE, sandbox_call(worker, &job, &reply, &err));
    assert_works(worker);
    buffer_done(&reply.output);
    sandbox_process_free(worker);
    free(data);
}

TEST(errors_are_the_jobs)
{
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    struct error err = {0};
    char request[SANDBOX_OPTIONS_MAX + 2];

    assert_fails(err, ERROR_BAD_IMAGE, call(worker, "fail", &reply, &err));
    assert_string_equal(err.message, "bad?image ?");
    assert_int_equal(reply.loss.reason, SANDBOX_KEPT);
    assert_fails(err, ERROR_BAD_REQUEST, call(worker, "what?", &reply, &err));
    memset(request, 'x', sizeof(request) - 1);
    request[sizeof(request) - 1] = '\0';
    assert_fails(err, ERROR_TOO_LARGE, call(worker, request, &reply, &err));
    /* more than the caller takes */
    assert_fails(err, ERROR_TOO_LARGE, call(worker, "echo", &reply, &err));
    sandbox_process_free(worker);
}

TEST(nothing_is_left_to_use)
{
    SKIP_WITHOUT_PROC();
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    struct error err = {0};
    pid_t pid = sandbox_process_pid(worker);
    char path[64];

    assert_true(call(worker, "look_around", &reply, &err));
    assert_int_equal(reply.answer[0], 0);
    assert_int_equal(reply.answer[1], 0);
    assert_int_equal(reply.answer[2], 0);
    assert_int_equal(field_of(pid, "NoNewPrivs"), 1);
    assert_int_equal(field_of(pid, "Seccomp"), 2);
    assert_int_equal(field_of(pid, "CapPrm"), 0);
    assert_int_equal(field_of(pid, "CapEff"), 0);
    assert_int_equal(field_of(pid, "CapAmb"), 0);
    if (geteuid() == 0) { /* others may not look into a process that cannot be dumped */
        int n = 0;
        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        DIR *dir = opendir(path);
        assert_non_null(dir);
        while (readdir(dir) != NULL)
            n++;
        closedir(dir);
        assert_int_equal(n, 2 + 1 + SANDBOX_SANITIZED);
    }
    sandbox_process_free(worker);
}

/* Whether the call was lost although its job ends when it is told to: the process was held up for
 * as long as its grace. Then once more. */
static bool held_up(struct sandbox_process *worker, const struct sandbox_reply *reply, int *rounds)
{
    if (reply->loss.reason != SANDBOX_TIMED_OUT || ++*rounds == HELD_UP_MAX)
        return false;
    assert_works(worker); /* the next one is ready */
    return true;
}

TEST(the_deadline)
{
    static const char *const names[] = {"spin", "sleep"};
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    struct error err = {0};
    struct sandbox_request job = {.options = bytes_from_str("spin_politely")};
    int rounds = 0;
    pid_t pid;

    do {
        pid = sandbox_process_pid(worker);
        job.deadline_ms = clock_monotonic_ms() + 50;
        assert_fails(err, ERROR_DEADLINE, sandbox_call(worker, &job, &reply, &err));
    } while (held_up(worker, &reply, &rounds));
    assert_int_equal(reply.loss.reason, SANDBOX_KEPT);
    assert_int_equal(sandbox_process_pid(worker), pid);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        job.options = bytes_from_str(names[i]);
        job.deadline_ms = clock_monotonic_ms() + 50;
        assert_false(sandbox_call(worker, &job, &reply, &err));
        assert_in_range(clock_monotonic_ms(), job.deadline_ms, job.deadline_ms + 5000);
        assert_int_equal(err.code, ERROR_DEADLINE);
        assert_int_equal(reply.loss.reason, SANDBOX_TIMED_OUT);
        assert_works(worker);
    }
    sandbox_process_free(worker);
}

static void *cancel_soon(void *flag)
{
    usleep(30000);
    atomic_store((atomic_bool *)flag, true);
    return NULL;
}

TEST(cancelling)
{
    static const char *const names[] = {"spin_politely", "spin"};
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    struct error err = {0};
    atomic_bool flag;
    pthread_t thread;
    struct sandbox_request job = {.cancelled = &flag, .deadline_ms = clock_monotonic_ms() + FAR_MS};
    int rounds = 0;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        do {
            atomic_init(&flag, false);
            job.options = bytes_from_str(names[i]);
            assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &flag), 0);
            assert_fails(err, ERROR_DEADLINE, sandbox_call(worker, &job, &reply, &err));
            pthread_join(thread, NULL);
        } while (i == 0 && held_up(worker, &reply, &rounds));
        assert_int_equal(reply.loss.reason, i == 0 ? SANDBOX_KEPT : SANDBOX_TIMED_OUT);
    }
    assert_works(worker);
    sandbox_process_free(worker);
}

static int threads_of(pid_t pid)
{
    char path[64];
    int n = 0;

    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

TEST(lost_while_idle)
{
    SKIP_WITHOUT_PROC();
    int threads;
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {.output = BUFFER_MAX(4096)};
    struct error err = {0};

    kill(sandbox_process_pid(worker), SIGKILL);
    assert_gone(sandbox_process_pid(worker));
    assert_true(call(worker, "echo", &reply, &err));
    assert_int_equal(reply.loss.reason, SANDBOX_KILLED);
    for (int i = 0; !call(worker, "die_later", &reply, &err); i++) /* held up: before its reply */
        assert_true(i < HELD_UP_MAX && reply.loss.reason == SANDBOX_EXITED);
    assert_gone(sandbox_process_pid(worker));
    assert_true(call(worker, "echo", &reply, &err));
    assert_int_equal(reply.loss.reason, SANDBOX_EXITED);
    assert_int_equal(reply.loss.detail, 4);
    threads = threads_of(sandbox_process_pid(worker));
    assert_true(call(worker, "reply_later", &reply, &err)); /* by a thread that ends then */
    if (SANDBOX_SANITIZED) /* has threads of its own, which come with the first of ours */
        usleep(1000000);
    else
        while (threads_of(sandbox_process_pid(worker)) > threads)
            usleep(1000);
    assert_true(call(worker, "echo", &reply, &err));
    assert_int_equal(reply.loss.reason, SANDBOX_NONSENSE);
    buffer_done(&reply.output);
    sandbox_process_free(worker);
}

TEST(a_thousand_crashes_leave_nothing)
{
    SKIP_WITHOUT_PROC();
    static const char *const names[] = {"crash", "exit", "exec", "bad_length"};
    struct sandbox_process *worker = worker_of(sandbox, 1 << 20);
    struct sandbox_reply reply = {0};
    struct error err = {0};
    int before = descriptors();

    for (int i = 0; i < (SANDBOX_SANITIZED ? 200 : 1000); i++) {
        assert_fails(err, ERROR_BAD_IMAGE, call(worker, names[i % 4], &reply, &err));
        assert_int_not_equal(reply.loss.reason, SANDBOX_KEPT);
    }
    assert_works(worker);
    assert_int_equal(descriptors(), before);
    assert_int_equal(children_of(field_of(sandbox_process_pid(worker), "PPid")), 1);
    sandbox_process_free(worker);
}

TEST(sixty_four_workers)
{
    SKIP_WITHOUT_PROC();
    struct sandbox_process *workers[64];
    int before = descriptors();

    for (int i = 0; i < 64; i++)
        workers[i] = worker_of(sandbox, 1 << 20);
    int zygote = field_of(sandbox_process_pid(workers[0]), "PPid");
    assert_int_equal(children_of(zygote), 64);
    for (int i = 0; i < 64; i++)
        assert_works(workers[i]);
    for (int i = 0; i < 64; i++)
        sandbox_process_free(workers[i]);
    assert_int_equal(children_of(zygote), 0);
    assert_int_equal(descriptors(), before);
}

int main(void)
{
    struct error err = {0};

    setenv("AWS_SECRET_ACCESS_KEY", "hush", 1);
    job_secret = getenv("AWS_SECRET_ACCESS_KEY");
    job_parent = getpid();
    sandbox = sandbox_start(&job_code, &err);
    if (sandbox == NULL)
        return 1;
    int failed = cmocka_run_group_tests(test_cases, NULL, NULL);
    sandbox_stop(sandbox);
    return failed;
}
