/* Work on hostile bytes in processes that can do nothing but compute.
 *
 *     main process --socketpair--> zygote --fork--> worker, worker, ...
 *          |                                          |
 *          +------- a socketpair and two pieces of shared memory each
 *
 * sandbox_start forks the zygote, first of all and while the process has one thread: it holds no
 * secret, no socket and no lock of ours. It loads what workers need (`preload`) and forks one
 * whenever asked. A worker shuts itself in (sandbox_lock.c), then makes its state and serves one
 * call at a time. One that crashes, hangs, uses too much memory or sends nonsense costs that call
 * and is replaced.
 *
 * What a call brings lies in a memfd that both sides have mapped, and so does what it gives back:
 * one copy in, one copy out. The parent never looks at memory that the worker can still change, but
 * at its own copy of it. A worker serves many calls: one that was taken over sees what later calls
 * bring it, until it is replaced.
 *
 * The zygote reads nothing but its parent's messages. Should it die all the same (the kernel's
 * out-of-memory killer, an operator), its workers die with it, every call is refused
 * (ERROR_UNAVAILABLE) and sandbox_alive says so: the process is to end and be started again, since
 * one with threads cannot fork a new zygote. It is the child of the thread that called
 * sandbox_start, which gets SIGCHLD and must outlive it. Nothing outlives this process. */
#ifndef DARKROOM_SANDBOX_SANDBOX_H
#define DARKROOM_SANDBOX_SANDBOX_H

#include "base/bytes.h"

#include <stdatomic.h>

enum { SANDBOX_REQUEST_MAX = 1024, SANDBOX_ANSWER_MAX = 256 };

/* --- in the worker --- */

struct sandbox_task {
    struct bytes request; /* as in struct sandbox_job */
    struct bytes input;
    const atomic_bool *cancelled; /* becomes true at the deadline: end soon then, or be killed */
};

struct sandbox_result {
    uint8_t *output; /* to be written to, at most output_max bytes */
    size_t output_max;
    size_t output_len;
    uint8_t answer[SANDBOX_ANSWER_MAX]; /* what is small */
    size_t answer_len;
};

struct sandbox_code {
    /* In the zygote: load libraries, plugins, tables. Must leave no thread behind (none would be in
     * the workers). The environment is empty. May be NULL. */
    bool (*preload)(struct error *err);
    /* In each new worker, inside the sandbox: no files, no exec. May be NULL. */
    bool (*state_new)(void **state, struct error *err);
    /* One call. Errors it may set, others count as nonsense: ERROR_BAD_REQUEST, _TOO_LARGE,
     * _UNSUPPORTED_MEDIA, _BAD_IMAGE, _INTERNAL, _OVERLOADED, _UNAVAILABLE, _DEADLINE. */
    bool (*run)(void *state, const struct sandbox_task *task, struct sandbox_result *result,
                struct error *err);
};

/* --- in the parent --- */

struct sandbox;
struct sandbox_worker;

struct sandbox_limits { /* bytes */
    size_t input_max, output_max;
    size_t memory_max; /* private memory of a worker, with its libraries' data and threads' stacks;
                          no limit under sanitizers */
};

/* Fork the zygote. For the main thread, before any other runs. Waits for nothing: sandbox_check
 * tells whether this system can sandbox, sandbox_worker_new whether `preload` went well, which runs
 * when the first worker is asked for. `code` must stay. NULL: ERROR_UNAVAILABLE. */
struct sandbox *sandbox_start(const struct sandbox_code *code, struct error *err) NODISCARD;
/* Whether a process can shut itself in here: the zygote tries that first, before `preload`, and
 * this waits until it has. ERROR_UNAVAILABLE says what is missing. Thread-safe. */
bool sandbox_check(struct sandbox *sandbox, struct error *err) NODISCARD;
/* End the zygote and whatever workers are left; NULL is fine. */
void sandbox_stop(struct sandbox *sandbox);
/* Whether the zygote lives. Thread-safe. */
bool sandbox_alive(struct sandbox *sandbox);

/* A worker and its place: the process changes when it is replaced. Waits until the first one is
 * ready. One thread at a time may use it; any number of them may exist. ERROR_UNAVAILABLE with the
 * reason: this system cannot sandbox, preload or state_new failed. */
struct sandbox_worker *sandbox_worker_new(struct sandbox *sandbox,
                                          const struct sandbox_limits *limits,
                                          struct error *err) NODISCARD;
void sandbox_worker_free(struct sandbox_worker *worker);
/* The present process, for measurements; 0: none. */
int sandbox_worker_pid(const struct sandbox_worker *worker);

enum sandbox_loss_reason {
    SANDBOX_KEPT,      /* the worker goes on */
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

struct sandbox_job {
    struct bytes request; /* at most SANDBOX_REQUEST_MAX: options */
    struct bytes input;
    int64_t deadline_ms;
    const atomic_bool *cancelled; /* once true, the same as the deadline; may be NULL */
};

struct sandbox_reply {
    /* The caller's, made with BUFFER_MAX and freed with buffer_done; replaced by each call. */
    struct buffer output;
    uint8_t answer[SANDBOX_ANSWER_MAX];
    size_t answer_len;
    /* Always set, for the caller to count and log. A worker that was lost while idle, or killed
     * before it was ready, is told of by the next call, which need not fail for it. */
    struct sandbox_loss loss;
};

/* Have the worker do the job. The errors of `run`; ERROR_BAD_IMAGE when the worker was lost by it;
 * ERROR_DEADLINE at the deadline (it is asked to end first, and killed 0.2 s later);
 * ERROR_TOO_LARGE over a limit; ERROR_UNAVAILABLE when there is no worker. */
bool sandbox_call(struct sandbox_worker *worker, const struct sandbox_job *job,
                  struct sandbox_reply *reply, struct error *err) NODISCARD;

#endif
