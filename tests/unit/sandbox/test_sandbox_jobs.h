/* What the sandbox processes of the tests do. The request is a job's name, the input its data. */
#pragma once

#include "../test_cases.h"
#include "test_sandbox_harm.h"

static bool job_echo(struct job_call *c)
{
    size_t len = c->request->input.len;

    if (len > c->reply->output.max)
        return error_set(c->err, ERROR_TOO_LARGE, "too long");
    memcpy(c->reply->output.data, c->request->input.data, len);
    c->reply->output.len = len;
    return true;
}

/* A little work that reads all of the input and writes 30 KB. */
static bool job_sum(struct job_call *c)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < c->request->input.len; i += 64)
        sum += c->request->input.data[i];
    memset(c->reply->output.data, (int)(sum & 0xff), 30000);
    c->reply->output.len = 30000;
    return true;
}

static bool job_fail(struct job_call *c)
{
    return error_set(c->err, ERROR_BAD_IMAGE, "bad\nimage \xff");
}

static void *add_one(void *n)
{
    atomic_fetch_add((atomic_int *)n, 1);
    return NULL;
}

static bool job_threads(struct job_call *c)
{
    pthread_t threads[8];
    atomic_int n = 0;

    for (int i = 0; i < 8; i++) {
        if (pthread_create(&threads[i], NULL, add_one, &n) != 0)
            return error_set(c->err, ERROR_INTERNAL, "no thread");
    }
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    c->reply->answer[0] = (uint8_t)atomic_load(&n);
    c->reply->answer_len = 1;
    return true;
}

/* What is left of the environment, of its memory, and of root: 0 each. */
static bool job_look_around(struct job_call *c)
{
    uint8_t *a = c->reply->answer;

    a[0] = environ != NULL && *environ != NULL;
    a[1] = job_secret[0] != '\0';
    a[2] = geteuid() == 0;
    c->reply->answer_len = 3;
    return true;
}

static bool job_capget(struct job_call *c)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};

    return answer_errno(c, syscall(SYS_capget, &header, caps) == 0);
}

static bool job_count(struct job_call *c)
{
    c->reply->answer[0] = (uint8_t)++job_calls;
    c->reply->answer_len = 1;
    return true;
}

static const struct {
    const char *name;
    bool (*run)(struct job_call *call);
} jobs[] = {
#define JOB(name)                                                                                  \
    {                                                                                              \
#name, job_##name                                                                          \
    }
    JOB(echo),
    JOB(sum),
    JOB(fail),
    JOB(foreign_error),
    JOB(open),
    JOB(create),
    JOB(stat),
    JOB(socket),
    JOB(connect),
    JOB(send_fd),
    JOB(exec),
    JOB(fork),
    JOB(namespace),
    JOB(kill_parent),
    JOB(tgkill_parent),
    JOB(ptrace),
    JOB(read_parent),
    JOB(map_code),
    JOB(make_code),
    JOB(share_memory),
    JOB(new_filter),
    JOB(allocate),
    JOB(allocate_all),
    JOB(spin),
    JOB(spin_politely),
    JOB(sleep),
    JOB(crash),
    JOB(abort),
    JOB(trap),
    JOB(exit),
    JOB(overrun),
    JOB(write_input),
    JOB(bad_length),
    JOB(bad_answer),
    JOB(short_message),
    JOB(long_message),
    JOB(reply_twice),
    JOB(reply_later),
    JOB(die_later),
    JOB(close),
    JOB(flood),
    JOB(threads),
    JOB(look_around),
    JOB(capget),
    JOB(count),
#ifdef __x86_64__
    JOB(other_architecture),
#endif
};

static bool run_job(void *state, const struct sandbox_request *request, struct sandbox_reply *reply,
                    struct error *err)
{
    struct job_call call = {request, reply, err};

    for (size_t i = 0; i < ARRAY_SIZE(jobs); i++) {
        if (bytes_equal(request->options, bytes_from_str(jobs[i].name)))
            return jobs[i].run(&call);
    }
    return error_set(err, ERROR_BAD_REQUEST, "no such job");
}

static const struct sandbox_code job_code = {.run = run_job};

static inline struct sandbox_process *worker_of(struct sandbox *sandbox, size_t payload_max)
{
    struct error err = {0};
    struct sandbox_process *worker = sandbox_process_new(
        sandbox,
        &(struct sandbox_limits){
            .input_max = payload_max, .output_max = payload_max, .memory_max = MEMORY_MAX},
        &err);

    if (worker == NULL)
        fail_msg("%s", err.message);
    return worker;
}

static inline bool call(struct sandbox_process *worker, const char *name,
                        struct sandbox_reply *reply, struct error *err)
{
    return sandbox_call(worker,
                        &(struct sandbox_request){.options = bytes_from_str(name),
                                                  .input = bytes_from_str("the input"),
                                                  .deadline_ms = clock_monotonic_ms() + FAR_MS},
                        reply, err);
}

static inline void assert_works(struct sandbox_process *worker)
{
    struct sandbox_reply reply = {.output = BUFFER_MAX(1 << 20)};
    struct error err = {0};

    if (!call(worker, "echo", &reply, &err))
        fail_msg("%s", err.message);
    assert_int_equal(reply.output.len, strlen("the input"));
    assert_memory_equal(reply.output.data, "the input", reply.output.len);
    buffer_done(&reply.output);
}

/* Whether it is there and no zombie. One whose first thread is a zombie has its files until the
 * last has ended. */
static inline bool is_running(pid_t pid)
{
    char path[64], text[512], status = 'Z';
    int threads = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    if (fgets(text, sizeof(text), file) != NULL && strrchr(text, ')') != NULL)
        sscanf(strrchr(text, ')'),
               ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &status,
               &threads);
    fclose(file);
    return (status != 'Z' && status != 'X') || threads > 1;
}

static inline void assert_gone(pid_t pid)
{
    int64_t deadline_ms = clock_monotonic_ms() + 10000;

    while (is_running(pid) && clock_left_ms(deadline_ms) > 0)
        usleep(1000);
    assert_false(is_running(pid));
}

/* ---- a service's process in miniature, for tests of its death and of its surroundings */

/* Run `body` in a process of its own, as a service would be: one thread, one sandbox. */
static inline int status_of(void (*body)(int fd), int *pid_fd)
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

static inline struct sandbox *started(const struct sandbox_code *code)
{
    struct error err = {0};
    struct sandbox *sandbox = sandbox_start(code, &err);

    if (sandbox == NULL)
        _exit(20);
    return sandbox;
}

static inline pid_t zygote_of(struct sandbox_process *worker)
{
    char path[64], text[512];
    int ppid = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", sandbox_process_pid(worker));
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL ||
        sscanf(strrchr(text, ')'), ") %*c %d", &ppid) != 1)
        _exit(21);
    fclose(file);
    return ppid;
}
