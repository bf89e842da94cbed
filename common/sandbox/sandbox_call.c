#include "sandbox/sandbox.h"

#include "base/clock.h"
#include "base/xmalloc.h"
#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum {
    START_MS = 30000,       /* for a new process to be ready */
    GRACE_MS = 200,         /* between asking to end and killing */
    CANCELLED_LOOK_MS = 20, /* how often request->cancelled is looked at */
    ATTEMPTS = 3,
    MEMORY_KEPT = 1024 * 1024, /* of input and output each, from one call to the next */
};

struct sandbox_process {
    struct sandbox *sandbox;
    struct sandbox_limits limits;
    struct sandbox_memory input, output;
    int fd; /* -1: no process */
    pid_t pid;
    bool ready;
    int64_t start_deadline_ms;
    uint32_t sequence;
};

const char *sandbox_loss_name(enum sandbox_loss_reason reason)
{
    static const char *const names[SANDBOX_LOSS_REASONS] = {
        [SANDBOX_KEPT] = "kept",           [SANDBOX_CRASHED] = "crashed",
        [SANDBOX_FORBIDDEN] = "forbidden", [SANDBOX_TIMED_OUT] = "timed-out",
        [SANDBOX_KILLED] = "killed",       [SANDBOX_EXITED] = "exited",
        [SANDBOX_NONSENSE] = "nonsense",
    };

    return names[reason];
}

int sandbox_process_pid(const struct sandbox_process *process)
{
    return process->fd >= 0 ? process->pid : 0;
}

static bool start(struct sandbox_process *p, struct error *err)
{
    int pair[2];

    if (!channel_pair(pair, err))
        return false;
    bool ok =
        sandbox_fork(p->sandbox, &p->limits,
                     (const int[ZYGOTE_FDS]){pair[1], p->input.fd, p->output.fd}, &p->pid, err);
    close(pair[1]);
    if (!ok) {
        close(pair[0]);
        return false;
    }
    p->fd = pair[0];
    p->ready = false;
    p->sequence = 0;
    p->start_deadline_ms = clock_monotonic_ms() + START_MS;
    return true;
}

static struct sandbox_loss loss_of(int status)
{
    if (WIFEXITED(status))
        return (struct sandbox_loss){SANDBOX_EXITED, WEXITSTATUS(status)};
    int sig = WTERMSIG(status);
    return (struct sandbox_loss){sig == SIGSYS    ? SANDBOX_FORBIDDEN
                                 : sig == SIGKILL ? SANDBOX_KILLED
                                                  : SANDBOX_CRASHED,
                                 sig};
}

/* End the process, and leave nothing of what it was working on. False: the zygote is gone. */
static bool discard(struct sandbox_process *p, struct sandbox_loss *loss)
{
    int status;
    bool ok = sandbox_end(p->sandbox, p->pid, &status);

    *loss = ok ? loss_of(status) : (struct sandbox_loss){SANDBOX_KILLED, SIGKILL};
    close(p->fd);
    p->fd = -1;
    sandbox_memory_drop(&p->input, 0);
    sandbox_memory_drop(&p->output, 0);
    return ok;
}

/* The same, and start the next one, which gets ready meanwhile. The reason is our own, or KEPT for
 * what the process died of. */
static bool replace(struct sandbox_process *p, enum sandbox_loss_reason reason,
                    struct sandbox_loss *loss)
{
    struct error ignored = {0}; /* the next call tries again and returns it */
    bool ok = discard(p, loss);

    if (reason != SANDBOX_KEPT)
        loss->reason = reason;
    (void)!start(p, &ignored);
    return ok;
}

/* The process was lost by this call. When the zygote took it along the image is not to blame. */
static bool lost(struct sandbox_process *p, enum sandbox_loss_reason reason,
                 struct sandbox_loss *loss, struct error *err)
{
    if (!replace(p, reason, loss))
        return error_set(err, ERROR_UNAVAILABLE, "the sandbox's zygote is gone");
    if (reason == SANDBOX_TIMED_OUT)
        return error_set(err, ERROR_DEADLINE, "the image took too long");
    return error_set(err, ERROR_BAD_IMAGE, "the image cannot be decoded");
}

/* Whatever the process's bytes are, they become an error that a process may have: text for people.
 */
static bool take_error(const struct error *theirs, struct error *err)
{
    struct error copy = *theirs;

    switch ((int)copy.code) {
    case ERROR_BAD_REQUEST:
    case ERROR_TOO_LARGE:
    case ERROR_UNSUPPORTED_MEDIA:
    case ERROR_BAD_IMAGE:
    case ERROR_INTERNAL:
    case ERROR_OVERLOADED:
    case ERROR_DEADLINE:
    case ERROR_UNAVAILABLE: /* from sandbox_lock */
        break;
    default:
        return false;
    }
    copy.message[sizeof(copy.message) - 1] = '\0';
    for (char *c = copy.message; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~')
            *c = '?';
    }
    *err = copy;
    return true;
}

/* Wait for a new process's first message. Past the caller's deadline it may go on getting ready.
 * *loss is set when it was lost. */
static bool get_ready(struct sandbox_process *p, int64_t deadline_ms, struct sandbox_loss *loss,
                      struct error *err)
{
    struct sandbox_reply_message message;
    bool last = deadline_ms >= p->start_deadline_ms;

    if (!channel_wait(p->fd, last ? p->start_deadline_ms : deadline_ms) && !last)
        return error_set(err, ERROR_DEADLINE, "no sandbox process was ready in time");
    ssize_t n = recv(p->fd, &message, sizeof(message), MSG_DONTWAIT);
    bool answered = n == (ssize_t)sizeof(message);
    if (answered && message.err.code == ERROR_NONE) {
        p->ready = true;
        return true;
    }
    answered = answered && take_error(&message.err, err);
    (void)!discard(p, loss);
    if (!answered)
        return error_set(err, ERROR_UNAVAILABLE, "a new sandbox process was lost (%s, %d)",
                         sandbox_loss_name(loss->reason), loss->detail);
    err->code = ERROR_UNAVAILABLE;
    return error_wrap(err, "no sandbox");
}

/* Start one if there is none. A process that is killed before it is ready is no call's fault: it is
 * replaced. *loss is set when one was lost. */
static bool start_and_get_ready(struct sandbox_process *p, int64_t deadline_ms,
                                struct sandbox_loss *loss, struct error *err)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct sandbox_loss last = {0};

        if (p->fd < 0 && !start(p, err))
            return false;
        if (get_ready(p, deadline_ms, &last, err))
            return true;
        if (last.reason != SANDBOX_KEPT)
            *loss = last;
        if (last.reason != SANDBOX_KILLED)
            return false;
    }
    return false;
}

struct sandbox_process *sandbox_process_new(struct sandbox *sandbox,
                                            const struct sandbox_limits *limits, struct error *err)
{
    struct sandbox_process *p = xcalloc(1, sizeof(*p));
    struct sandbox_loss ignored;

    *p = (struct sandbox_process){.sandbox = sandbox, .limits = *limits, .fd = -1};
    if (limits->input_max > SIZE_MAX / 2)
        (void)error_set(err, ERROR_TOO_LARGE, "a sandbox that large");
    else if (sandbox_memory_new(&p->input, SANDBOX_INPUT_OFFSET + limits->input_max, err) &&
             sandbox_memory_new(&p->output, limits->output_max, err) &&
             start_and_get_ready(p, INT64_MAX, &ignored, err))
        return p;
    sandbox_process_free(p);
    return NULL;
}

void sandbox_process_free(struct sandbox_process *p)
{
    if (p == NULL)
        return;
    struct sandbox_loss ignored;
    if (p->fd >= 0)
        (void)!discard(p, &ignored);
    sandbox_memory_done(&p->input);
    sandbox_memory_done(&p->output);
    free(p);
}

/* A process that is ready for a call. One that ended while it was idle, or said something that
 * nobody asked for, is replaced first. */
static bool ensure_ready(struct sandbox_process *p, int64_t deadline_ms, struct sandbox_loss *loss,
                         struct error *err)
{
    char byte;

    if (p->fd >= 0 && p->ready) {
        ssize_t n = recv(p->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
            return true;
        (void)!replace(p, n > 0 ? SANDBOX_NONSENSE : SANDBOX_KEPT, loss);
    }
    return start_and_get_ready(p, deadline_ms, loss, err);
}

static bool hand_over(struct sandbox_process *p, const struct sandbox_request *request)
{
    struct sandbox_control *control = (struct sandbox_control *)(void *)p->input.data;
    struct sandbox_request_message message = {
        .sequence = p->sequence == UINT32_MAX ? 1 : p->sequence + 1,
        .options_len = (uint32_t)request->options.len,
        .input_len = request->input.len,
    };

    p->sequence = message.sequence;
    atomic_store(&control->cancelled, false);
    if (request->options.len > 0)
        memcpy(message.options, request->options.data, request->options.len);
    if (request->input.len > 0)
        memcpy(p->input.data + SANDBOX_INPUT_OFFSET, request->input.data, request->input.len);
    return channel_send(p->fd, &message, sizeof(message));
}

/* Until the deadline, then with the request to end, then no more. */
static bool wait_for_reply(struct sandbox_process *p, const struct sandbox_request *request)
{
    struct sandbox_control *control = (struct sandbox_control *)(void *)p->input.data;

    do {
        int64_t until = request->deadline_ms;

        if (request->cancelled != NULL && until > clock_monotonic_ms() + CANCELLED_LOOK_MS)
            until = clock_monotonic_ms() + CANCELLED_LOOK_MS;
        if (channel_wait(p->fd, until))
            return true;
    } while ((request->cancelled == NULL || !atomic_load(request->cancelled)) &&
             clock_left_ms(request->deadline_ms) > 0);
    atomic_store(&control->cancelled, true);
    return channel_wait(p->fd, clock_monotonic_ms() + GRACE_MS);
}

static bool is_sense(const struct sandbox_process *p, const struct sandbox_reply_message *m,
                     ssize_t len)
{
    return len == (ssize_t)sizeof(*m) && m->sequence == p->sequence &&
           m->answer_len <= SANDBOX_ANSWER_MAX && m->output_len <= p->limits.output_max;
}

static bool take_reply(struct sandbox_process *p, const struct sandbox_reply_message *message,
                       struct sandbox_reply *reply, struct error *err)
{
    if (message->err.code != ERROR_NONE)
        return !take_error(&message->err, err) && lost(p, SANDBOX_NONSENSE, &reply->loss, err);
    memcpy(reply->answer, message->answer, sizeof(reply->answer));
    reply->answer_len = message->answer_len;
    return buffer_append(&reply->output, p->output.data, (size_t)message->output_len, err);
}

bool sandbox_call(struct sandbox_process *p, const struct sandbox_request *request,
                  struct sandbox_reply *reply, struct error *err)
{
    struct sandbox_reply_message message;
    ssize_t len;

    reply->loss = (struct sandbox_loss){0};
    reply->output.len = 0;
    reply->answer_len = 0;
    if (request->options.len > SANDBOX_OPTIONS_MAX || request->input.len > p->limits.input_max)
        return error_set(err, ERROR_TOO_LARGE, "more than a sandbox process takes");
    /* again when it died between two looks */
    for (int attempt = 0; attempt == 0 || !hand_over(p, request); attempt++) {
        if (attempt == ATTEMPTS)
            return error_set(err, ERROR_UNAVAILABLE, "no sandbox process takes the call");
        if (!ensure_ready(p, request->deadline_ms, &reply->loss, err))
            return false;
    }
    if (!wait_for_reply(p, request))
        return lost(p, SANDBOX_TIMED_OUT, &reply->loss, err);
    len = channel_receive(p->fd, &message, sizeof(message));
    if (!is_sense(p, &message, len))
        return lost(p, len > 0 ? SANDBOX_NONSENSE : SANDBOX_KEPT, &reply->loss, err);
    bool ok = take_reply(p, &message, reply, err);
    if (p->fd >= 0 && request->input.len > MEMORY_KEPT)
        sandbox_memory_drop(&p->input, MEMORY_KEPT);
    if (p->fd >= 0 && message.output_len > MEMORY_KEPT)
        sandbox_memory_drop(&p->output, MEMORY_KEPT);
    return ok;
}
