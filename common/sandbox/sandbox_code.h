/* What both sides of a sandbox know: the code that runs in its processes, its request and reply. */
#pragma once

#include "base/bytes.h"

#include <stdatomic.h>

enum { SANDBOX_OPTIONS_MAX = 1024, SANDBOX_ANSWER_MAX = 256 };

enum sandbox_loss_reason {
    SANDBOX_KEPT,      /* the process goes on */
    SANDBOX_CRASHED,   /* by a signal */
    SANDBOX_FORBIDDEN, /* by a system call it may not make */
    SANDBOX_TIMED_OUT, /* killed by us after the deadline */
    SANDBOX_KILLED,    /* by SIGKILL, not ours: the kernel was out of memory */
    SANDBOX_EXITED,
    SANDBOX_NONSENSE, /* it broke the protocol */
    SANDBOX_LOSS_REASONS
};

struct sandbox_loss {
    enum sandbox_loss_reason reason;
    int detail; /* the signal, or the exit status */
};

/* "crashed", "forbidden", ...: for metrics and logs. */
const char *sandbox_loss_name(enum sandbox_loss_reason reason);

/* --- what goes in and what comes back, as both sides see it --- */

struct sandbox_request {
    struct bytes options; /* at most SANDBOX_OPTIONS_MAX */
    struct bytes input;
    int64_t deadline_ms; /* the parent's: 0 in the process */
    /* Once true, the same as the deadline. The parent's may be NULL. In the process it becomes true
     * at the deadline: end soon then, or be killed. */
    const atomic_bool *cancelled;
};

struct sandbox_reply {
    /* The parent's: made with BUFFER_MAX, freed with buffer_done, replaced by each call. In the
     * process it is the shared memory: it never grows over its max, output_max. */
    struct buffer output;
    uint8_t answer[SANDBOX_ANSWER_MAX]; /* what is small */
    size_t answer_len;
    /* Always set in the parent, for the caller to count and log. A process that was lost while
     * idle, or killed before it was ready, is reported by the next call, which need not fail. */
    struct sandbox_loss loss;
};

/* --- in the process --- */

struct sandbox_code {
    /* In the zygote: load libraries, plugins, tables. Must leave no thread behind (none would be in
     * the processes). The environment is empty. May be NULL. */
    bool (*preload)(struct error *err);
    /* In each new process, inside the sandbox: no files, no exec. May be NULL. */
    bool (*state_new)(void **state, struct error *err);
    /* One call. Errors it may set, others count as nonsense: ERROR_BAD_REQUEST, _TOO_LARGE,
     * _UNSUPPORTED_MEDIA, _BAD_IMAGE, _INTERNAL, _OVERLOADED, _UNAVAILABLE, _DEADLINE. */
    bool (*run)(void *state, const struct sandbox_request *request, struct sandbox_reply *reply,
                struct error *err);
};

struct sandbox_limits { /* bytes */
    size_t input_max, output_max;
    size_t memory_max; /* private memory of a process, with its libraries' data and threads' stacks;
                          no limit under sanitizers */
};
