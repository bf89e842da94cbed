#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct child {
    const struct sandbox_code *code;
    struct sandbox_limits limits;
    const uint8_t *input; /* struct sandbox_control, then the input */
    uint8_t *output;
    void *state;
};

/* When memory runs out the kernel shall take a process, not the service. Any process may make
 * itself the likelier victim. */
static void offer_to_oom_killer(void)
{
    CLEANUP_CLOSE int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0)
        (void)!write(fd, "1000", 4);
}

static bool set_up(struct child *c, const int fds[ZYGOTE_FDS], struct error *err)
{
    offer_to_oom_killer();
    c->input = sandbox_memory_map(fds[1], SANDBOX_INPUT_OFFSET + c->limits.input_max, false);
    c->output = sandbox_memory_map(fds[2], c->limits.output_max, true);
    return (c->input != NULL && c->output != NULL) ||
           error_set(err, ERROR_UNAVAILABLE, "shared memory: %s", strerror(errno));
}

/* read and write are the only calls the filter allows on the socket. */
static void reply_with(const struct sandbox_reply_message *reply)
{
    if (write(SANDBOX_FD, reply, sizeof(*reply)) != (ssize_t)sizeof(*reply))
        _exit(0); /* the parent is gone */
}

static void run(struct child *c, const struct sandbox_request_message *message,
                struct sandbox_reply_message *answer)
{
    const struct sandbox_control *control = (const struct sandbox_control *)(const void *)c->input;
    const size_t output_max = c->limits.output_max;
    const struct sandbox_request request = {
        .options = bytes_of(message->options, message->options_len),
        .input = bytes_of(c->input + SANDBOX_INPUT_OFFSET, (size_t)message->input_len),
        .cancelled = &control->cancelled,
    };
    struct sandbox_reply reply = {
        .output = {.data = c->output, .cap = output_max, .max = output_max}};

    *answer = (struct sandbox_reply_message){.sequence = message->sequence};
    if (!c->code->run(c->state, &request, &reply, &answer->err)) {
        if (answer->err.code == ERROR_NONE)
            answer->err.code = ERROR_INTERNAL;
        return;
    }
    answer->err = (struct error){0};
    answer->output_len = reply.output.len;
    answer->answer_len = (uint32_t)reply.answer_len;
    memcpy(answer->answer, reply.answer, sizeof(answer->answer));
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

_Noreturn void sandbox_child_main(const struct sandbox_code *code,
                                  const struct sandbox_limits *limits, const int fds[ZYGOTE_FDS],
                                  pid_t zygote)
{
    struct child c = {.code = code, .limits = *limits};
    struct sandbox_reply_message reply = {0};
    struct sandbox_request_message request;

    sandbox_die_with(zygote);
    prctl(PR_SET_NAME, "darkroom-child");
    bool ok = set_up(&c, fds, &reply.err);
    /* below this line SANDBOX_FD is the socket and nothing else is open */
    if (dup2(fds[0], SANDBOX_FD) < 0)
        _exit(1);
    ok = ok && sandbox_lock(limits, zygote, &reply.err) &&
         (code->state_new == NULL || code->state_new(&c.state, &reply.err));
    if (!ok && reply.err.code == ERROR_NONE)
        reply.err.code = ERROR_UNAVAILABLE;
    reply_with(&reply);
    while (ok && read(SANDBOX_FD, &request, sizeof(request)) == (ssize_t)sizeof(request)) {
        run(&c, &request, &reply);
        reply_with(&reply);
    }
    _exit(ok ? 0 : 1);
}
