/* Work on hostile bytes in processes that can do nothing but compute.
 *
 *     main process --socketpair--> zygote --fork--> process, process, ...
 *          |                                          |
 *          +------- a socketpair and two pieces of shared memory each
 *
 * sandbox_start forks the zygote, first of all and while the process has one thread: it holds no
 * secret, no socket and no lock of ours. It loads what processes need (`preload`) and forks one
 * whenever asked. A process shuts itself in (sandbox_lock.c), then makes its state and serves one
 * call at a time. One that crashes, hangs, uses too much memory or sends nonsense costs that call
 * and is replaced.
 *
 * What a call brings lies in a memfd that both sides have mapped, and so does what it gives back:
 * one copy in, one copy out. The parent never looks at memory that the process can still change,
 * but at its own copy of it. A process serves many calls: one that was taken over sees what later
 * calls bring it, until it is replaced.
 *
 * The zygote reads nothing but its parent's messages. Should it die all the same (the kernel's
 * out-of-memory killer, an operator), its processes die with it, every call is refused
 * (ERROR_UNAVAILABLE) and sandbox_alive says so: the process is to end and be started again, since
 * one with threads cannot fork a new zygote. It is the child of the thread that called
 * sandbox_start, which gets SIGCHLD and must outlive it. Nothing outlives this process. */
#pragma once

#include "sandbox/sandbox_code.h"

struct sandbox;
struct sandbox_process;

/* Fork the zygote. For the main thread, before any other runs. Waits for nothing: sandbox_check
 * tells whether this system can sandbox, sandbox_process_new whether `preload` went well, which
 * runs when the first process is asked for. `code` must stay. NULL: ERROR_UNAVAILABLE. */
struct sandbox *sandbox_start(const struct sandbox_code *code, struct error *err) NODISCARD;
/* Whether a process can shut itself in here: the zygote tries that first, before `preload`, and
 * this waits until it has. ERROR_UNAVAILABLE says what is missing. Thread-safe. */
bool sandbox_check(struct sandbox *sandbox, struct error *err) NODISCARD;
/* End the zygote and whatever processes are left; NULL is fine. */
void sandbox_stop(struct sandbox *sandbox);
/* Whether the zygote lives. Thread-safe. */
bool sandbox_alive(struct sandbox *sandbox);

/* A process and its place: the process changes when it is replaced. Waits until the first one is
 * ready. One thread at a time may use it; any number of them may exist. ERROR_UNAVAILABLE with the
 * reason: this system cannot sandbox, preload or state_new failed. */
struct sandbox_process *sandbox_process_new(struct sandbox *sandbox,
                                            const struct sandbox_limits *limits,
                                            struct error *err) NODISCARD;
void sandbox_process_free(struct sandbox_process *process);
/* The present process, for measurements; 0: none. */
int sandbox_process_pid(const struct sandbox_process *process);

/* Have the process do the job. The errors of `run`; ERROR_BAD_IMAGE when the process was lost by
 * it; ERROR_DEADLINE at the deadline (it is asked to end first, and killed 0.2 s later);
 * ERROR_TOO_LARGE over a limit; ERROR_UNAVAILABLE when there is no process. */
bool sandbox_call(struct sandbox_process *process, const struct sandbox_request *request,
                  struct sandbox_reply *reply, struct error *err) NODISCARD;
