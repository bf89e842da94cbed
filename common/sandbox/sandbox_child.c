#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct worker {
    const struct sandbox_code *code;
    struct sandbox_limits limits;
    const uint8_t *input; /* struct sandbox_control, then the input */
    uint8_t *output;
    void *state;
};

/* When memory runs out the kernel shall take a worker, not the service. Any process may make itself
 * the likelier victim. */
static void offer_to_oom_killer(void)
{
    CLEANUP_CLOSE int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0)
        (void)!write(fd, "1000", 4);
}

static bool set_up(struct worker *w, const int fds[ZYGOTE_FDS], struct error *err)
{
    offer_to_oom_killer();
    w->input = sandbox_memory_map(fds[1], SANDBOX_INPUT_OFFSET + w->limits.input_max, false);
    w->output = sandbox_memory_map(fds[2], w->limits.output_max, true);
    if (w->input == NULL || w->output == NULL)
        return error_set(err, ERROR_UNAVAILABLE, "shared memory: %s", strerror(errno));
    return true;
}

/* read and write are the only calls the filter allows on the socket. */
static void reply_with(const struct sandbox_reply_message *reply)
{
    if (write(SANDBOX_FD, reply, sizeof(*reply)) != (ssize_t)sizeof(*reply))
        _exit(0); /* the parent is gone */
}

static void run(struct worker *w, const struct sandbox_call_message *call,
                struct sandbox_reply_message *reply)
{
    const struct sandbox_control *control = (const struct sandbox_control *)(const void *)w->input;
    struct sandbox_task task = {
        .request = bytes_of(call->request, call->request_len),
        .input = bytes_of(w->input + SANDBOX_INPUT_OFFSET, (size_t)call->input_len),
        .cancelled = &control->cancelled,
    };
    struct sandbox_result result = {.output = w->output, .output_max = w->limits.output_max};

    *reply = (struct sandbox_reply_message){.sequence = call->sequence};
    if (!w->code->run(w->state, &task, &result, &reply->err)) {
        if (reply->err.code == ERROR_NONE)
            reply->err.code = ERROR_INTERNAL;
        return;
    }
    reply->err = (struct error){0};
    reply->output_len = result.output_len;
    reply->answer_len = (uint32_t)result.answer_len;
    memcpy(reply->answer, result.answer, sizeof(reply->answer));
}

_Noreturn void sandbox_trial_main(int fd, pid_t zygote)
{
    const struct sandbox_limits limits = {.memory_max = SIZE_MAX};
    struct sandbox_reply_message reply = {0};

    sandbox_die_with(zygote);
    if (dup2(fd, SANDBOX_FD) < 0)
        _exit(1);
    (void)!sandbox_lock(&limits, zygote, &reply.err);
    reply_with(&reply);
    _exit(0);
}

_Noreturn void sandbox_worker_main(const struct sandbox_code *code,
                                   const struct sandbox_limits *limits, const int fds[ZYGOTE_FDS],
                                   pid_t zygote)
{
    struct worker w = {.code = code, .limits = *limits};
    struct sandbox_reply_message reply = {0};
    struct sandbox_call_message call;

    sandbox_die_with(zygote);
    prctl(PR_SET_NAME, "darkroom-worker");
    bool ok = set_up(&w, fds, &reply.err);
    /* below this line SANDBOX_FD is the socket and nothing else is open */
    if (dup2(fds[0], SANDBOX_FD) < 0)
        _exit(1);
    ok = ok && sandbox_lock(limits, zygote, &reply.err) &&
         (code->state_new == NULL || code->state_new(&w.state, &reply.err));
    if (!ok && reply.err.code == ERROR_NONE)
        reply.err.code = ERROR_UNAVAILABLE;
    reply_with(&reply);
    while (ok && read(SANDBOX_FD, &call, sizeof(call)) == (ssize_t)sizeof(call)) {
        run(&w, &call, &reply);
        reply_with(&reply);
    }
    _exit(ok ? 0 : 1);
}
