/* What is left when anybody dies. */
#include "test_sandbox_jobs.h"

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
    struct sandbox_process *workers[4];
    pthread_t thread;
    pid_t pids[5];

    for (int i = 0; i < 4; i++) {
        workers[i] = worker_of(sandbox, 4096);
        pids[i] = sandbox_process_pid(workers[i]);
    }
    pids[4] = zygote_of(workers[0]);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread, NULL, spin_main, workers[i]);
    usleep(50000);
    (void)!write(fd, pids, sizeof(pids));
    kill(getpid(), SIGKILL);
}

TEST(nothing_outlives_the_parent)
{
    pid_t pids[5];
    int fd, status = status_of(die_suddenly, &fd);

    SKIP_WITHOUT_PROC();
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
    struct sandbox_process *worker = worker_of(sandbox, 4096), *idle = worker_of(sandbox, 4096);
    struct sandbox_reply reply = {0};
    pid_t zygote = zygote_of(worker);
    pthread_t thread;
    struct error err = {0};

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
    if (sandbox_process_new(sandbox, &(struct sandbox_limits){1, 1, MEMORY_MAX}, &err) != NULL)
        _exit(6);
    sandbox_process_free(worker);
    sandbox_process_free(idle);
    sandbox_stop(sandbox);
}

TEST(a_lost_zygote_is_noticed)
{
    SKIP_WITHOUT_PROC();
    assert_int_equal(status_of(lose_the_zygote, NULL), 0);
}

/* Ctrl-C and a service manager's SIGTERM reach the whole group; the parent decides. */
static void get_signals(int fd)
{
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    pid_t pid = sandbox_process_pid(worker);

    kill(zygote_of(worker), SIGTERM);
    kill(zygote_of(worker), SIGINT);
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    usleep(50000);
    assert_works(worker);
    if (sandbox_process_pid(worker) != pid)
        _exit(1);
    sandbox_process_free(worker);
    sandbox_stop(sandbox);
}

TEST(a_groups_signals_are_the_parents)
{
    SKIP_WITHOUT_PROC();
    assert_int_equal(status_of(get_signals, NULL), 0);
}

static void stop_with_workers(int fd)
{
    struct sandbox *sandbox = started(&job_code);
    struct sandbox_process *worker = worker_of(sandbox, 4096);
    pid_t pids[2] = {sandbox_process_pid(worker), zygote_of(worker)};

    sandbox_stop(NULL);
    sandbox_stop(sandbox);
    (void)!write(fd, pids, sizeof(pids));
}

TEST(stopping_ends_all)
{
    pid_t pids[2];
    int fd;

    SKIP_WITHOUT_PROC();
    assert_int_equal(status_of(stop_with_workers, &fd) & ~0xff00, 0);
    assert_int_equal(read(fd, pids, sizeof(pids)), sizeof(pids));
    close(fd);
    assert_gone(pids[0]);
    assert_gone(pids[1]);
}

TEST_MAIN(NULL, NULL)
