#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* as the threads of the worker pool; and preload shall not hold up the service's own start */
enum { NICENESS = 5 };

extern char **environ;

void sandbox_die_with(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
}

/* SIGINT of a terminal and SIGTERM of a service manager reach every process of the service. They
 * are for the parent, who finishes what it has accepted. */
static void set_signals(void)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGPIPE};
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The text, too: credentials are in it. */
static void wipe_environment(void)
{
    for (char **e = environ; e != NULL && *e != NULL; e++)
        explicit_bzero(*e, strlen(*e));
    clearenv();
}

/* Threads do not survive a fork, and whoever waits for one afterwards waits for ever. */
static bool check_one_thread(struct error *err)
{
    struct stat st;

    /* "." and ".." and one a thread */
    if (stat("/proc/self/task", &st) == 0 && st.st_nlink > 3 && !SANDBOX_SANITIZED)
        return error_set(err, ERROR_INTERNAL, "preload left %d threads", (int)st.st_nlink - 3);
    return true;
}

/* Whether a process can shut itself in on this system: one that does nothing else tries. */
static bool try_sandbox(struct error *err)
{
    struct sandbox_reply_message reply = {0};
    pid_t zygote = getpid(), pid;
    int fds[2], status = 0;

    if (!channel_pair(fds, err))
        return false;
    pid = fork();
    if (pid == 0)
        sandbox_trial_main(fds[1], zygote);
    close(fds[1]);
    bool answered =
        pid > 0 && channel_receive(fds[0], &reply, sizeof(reply)) == (ssize_t)sizeof(reply);
    close(fds[0]);
    if (pid > 0)
        (void)TEMP_FAILURE_RETRY(waitpid(pid, &status, 0));
    if (!answered)
        return error_set(err, ERROR_UNAVAILABLE, "no sandbox: a process was lost (status %d)",
                         status);
    *err = reply.err;
    return err->code == ERROR_NONE || error_wrap(err, "no sandbox");
}

static bool send_error(int fd, const struct error *err)
{
    const struct sandbox_reply_message message = {.err = *err};

    return channel_send(fd, &message, sizeof(message)) && err->code == ERROR_NONE;
}

static bool send_preloaded(int fd, const struct sandbox_code *code)
{
    struct error err = {0};

    if (!((code->preload == NULL || code->preload(&err)) && check_one_thread(&err)) &&
        err.code == ERROR_NONE)
        err.code = ERROR_INTERNAL;
    return send_error(fd, &err);
}

static struct sandbox_zygote_reply fork_process(const struct sandbox_code *code,
                                                const struct sandbox_zygote_message *message,
                                                const int fds[ZYGOTE_FDS])
{
    pid_t zygote = getpid();
    pid_t pid = fork();

    if (pid == 0)
        sandbox_child_main(code, &message->limits, fds, zygote);
    return (struct sandbox_zygote_reply){.pid = pid < 0 ? -errno : pid};
}

/* Until it is asked for, a process that has ended stays a zombie: its pid is nobody else's. One
 * that is ending already keeps the reason for it; SIGKILL comes too late to change it. */
static struct sandbox_zygote_reply end_process(pid_t pid)
{
    struct sandbox_zygote_reply reply = {.pid = pid};

    if (pid <= 0)
        return (struct sandbox_zygote_reply){.pid = -EINVAL};
    kill(pid, SIGKILL);
    if (TEMP_FAILURE_RETRY(waitpid(pid, &reply.status, 0)) < 0)
        reply.pid = -errno;
    return reply;
}

_Noreturn void sandbox_zygote_main(int fd, const struct sandbox_code *code, pid_t parent)
{
    struct error err = {0};
    struct sandbox_zygote_message message;
    struct sandbox_zygote_reply reply;
    int fds[ZYGOTE_FDS];
    bool loaded = false;

    sandbox_die_with(parent);
    prctl(PR_SET_NAME, "darkroom-zygote");
    (void)setpriority(PRIO_PROCESS, 0, NICENESS);
    set_signals();
    wipe_environment();
    (void)!try_sandbox(&err);
    if (!send_error(fd, &err))
        _exit(1);
    /* false at the latest when the parent is gone */
    while (channel_receive_fds(fd, &message, sizeof(message), fds, ZYGOTE_FDS)) {
        /* not earlier: it would only compete with the service's own start */
        if (!loaded && !send_preloaded(fd, code))
            _exit(1);
        loaded = true;
        reply = message.what == ZYGOTE_FORK ? fork_process(code, &message, fds)
                                            : end_process(message.pid);
        for (size_t i = 0; i < ZYGOTE_FDS; i++)
            cleanup_close(&fds[i]);
        if (!channel_send(fd, &reply, sizeof(reply)))
            break;
    }
    _exit(0);
}
