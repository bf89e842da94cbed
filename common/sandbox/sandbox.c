#include "sandbox/sandbox.h"

#include "base/clock.h"
#include "base/xmalloc.h"
#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* The zygote answers at once; only the first answer waits for its preload. */
enum { ZYGOTE_ANSWER_MS = 30000 };

struct sandbox {
    pid_t zygote;
    int fd;
    pthread_mutex_t lock; /* one question at a time */
    int replies;          /* read of its first two, see sandbox_internal.h */
};

static pid_t fork_zygote(const struct sandbox_code *code, int *fd, struct error *err)
{
    pid_t parent = getpid(), zygote;
    int fds[2];

    if (!channel_pair(fds, err))
        return -1;
    zygote = fork();
    if (zygote == 0) {
        close(fds[0]);
        sandbox_zygote_main(fds[1], code, parent);
    }
    close(fds[1]);
    *fd = fds[0];
    if (zygote < 0) {
        close(fds[0]);
        (void)error_set(err, ERROR_UNAVAILABLE, "fork: %s", strerror(errno));
    }
    return zygote;
}

struct sandbox *sandbox_start(const struct sandbox_code *code, struct error *err)
{
    int fd;
    pid_t zygote = fork_zygote(code, &fd, err);

    if (zygote < 0)
        return NULL;
    struct sandbox *sandbox = xcalloc(1, sizeof(*sandbox));
    sandbox->zygote = zygote;
    sandbox->fd = fd;
    pthread_mutex_init(&sandbox->lock, NULL);
    return sandbox;
}

void sandbox_stop(struct sandbox *sandbox)
{
    if (sandbox == NULL)
        return;
    kill(sandbox->zygote, SIGKILL);
    (void)TEMP_FAILURE_RETRY(waitpid(sandbox->zygote, NULL, 0));
    close(sandbox->fd);
    pthread_mutex_destroy(&sandbox->lock);
    free(sandbox);
}

bool sandbox_alive(struct sandbox *sandbox)
{
    siginfo_t info = {0};

    /* it stays a zombie until sandbox_stop */
    return waitid(P_PID, (id_t)sandbox->zygote, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

/* One that does not answer is as good as dead, and its death is what the owner looks for. */
static bool receive(struct sandbox *sandbox, void *message, size_t len)
{
    if (channel_wait(sandbox->fd, clock_monotonic_ms() + ZYGOTE_ANSWER_MS) &&
        channel_receive(sandbox->fd, message, len) == (ssize_t)len)
        return true;
    kill(sandbox->zygote, SIGKILL);
    return false;
}

static bool is_gone(struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "the sandbox's zygote is gone");
}

/* Called locked. */
static bool read_replies(struct sandbox *sandbox, int count, struct error *err)
{
    struct sandbox_reply_message message;

    for (; sandbox->replies < count; sandbox->replies++) {
        if (!receive(sandbox, &message, sizeof(message)))
            return is_gone(err);
        if (message.err.code != ERROR_NONE)
            return error_set(err, ERROR_UNAVAILABLE, "%s", message.err.message);
    }
    return true;
}

bool sandbox_check(struct sandbox *sandbox, struct error *err)
{
    pthread_mutex_lock(&sandbox->lock);
    bool ok = read_replies(sandbox, 1, err);
    pthread_mutex_unlock(&sandbox->lock);
    return ok;
}

bool sandbox_fork(struct sandbox *sandbox, const struct sandbox_limits *limits,
                  const int fds[ZYGOTE_FDS], pid_t *ret, struct error *err)
{
    struct sandbox_zygote_message message;
    struct sandbox_zygote_reply reply = {0};

    memset(&message, 0, sizeof(message)); /* padding, too */
    message.what = ZYGOTE_FORK;
    message.limits = *limits;
    pthread_mutex_lock(&sandbox->lock);
    bool ok =
        read_replies(sandbox, 1, err) &&
        (channel_send_fds(sandbox->fd, bytes_of(&message, sizeof(message)), fds, ZYGOTE_FDS) ||
         is_gone(err)) &&
        read_replies(sandbox, 2, err) && /* the first question makes it preload */
        (receive(sandbox, &reply, sizeof(reply)) || is_gone(err));
    pthread_mutex_unlock(&sandbox->lock);
    if (ok && reply.pid < 0)
        return error_set(err, ERROR_UNAVAILABLE, "fork: %s", strerror(-reply.pid));
    *ret = reply.pid;
    return ok;
}

bool sandbox_end(struct sandbox *sandbox, pid_t pid, int *status)
{
    struct sandbox_zygote_message message;
    struct sandbox_zygote_reply reply = {0};

    memset(&message, 0, sizeof(message));
    message.what = ZYGOTE_END;
    message.pid = pid;
    pthread_mutex_lock(&sandbox->lock);
    bool ok = channel_send(sandbox->fd, &message, sizeof(message)) &&
              receive(sandbox, &reply, sizeof(reply));
    pthread_mutex_unlock(&sandbox->lock);
    *status = reply.status;
    return ok && reply.pid == pid;
}
