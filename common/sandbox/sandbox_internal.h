/* Shared by the files of the sandbox: what goes over its sockets, and its shared memory. */
#pragma once

#include "sandbox/sandbox_code.h"

#include <sys/types.h>

/* What a sanitizer's run-time library needs and codecs do not; looked at by the filter and the
 * limits only. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOX_SANITIZED 1
#else
#define SANDBOX_SANITIZED 0
#endif

/* The only descriptor a process has (and stderr under sanitizers). */
enum { SANDBOX_FD = 3 };

/* --- messages, all of fixed size --- */

struct sandbox_request_message {
    uint32_t sequence;
    uint32_t options_len;
    uint64_t input_len;
    uint8_t options[SANDBOX_OPTIONS_MAX];
};

/* Sequence 0: the process is ready, or failed to become so. The zygote sends two of them: this
 * system can sandbox, and it is ready. */
struct sandbox_reply_message {
    uint32_t sequence;
    uint32_t answer_len;
    uint64_t output_len;
    uint8_t answer[SANDBOX_ANSWER_MAX];
    struct error err; /* ERROR_NONE: done */
};

struct sandbox_zygote_message {
    enum { ZYGOTE_FORK, ZYGOTE_END } what;
    pid_t pid;                    /* to end */
    struct sandbox_limits limits; /* of the process; its descriptors come along */
};
enum { ZYGOTE_FDS = 3 }; /* socket, input, output */

struct sandbox_zygote_reply {
    pid_t pid;  /* or -errno */
    int status; /* waitpid's */
};

/* --- sandbox_channel.c --- */

bool channel_pair(int fds[2], struct error *err) NODISCARD;
/* The whole message or false. Never SIGPIPE. */
bool channel_send(int fd, const void *message, size_t len) NODISCARD;
bool channel_send_fds(int fd, struct bytes message, const int *fds, size_t count) NODISCARD;
/* The message's length, which may differ from `len`; 0 or -1: the peer is gone. */
ssize_t channel_receive(int fd, void *message, size_t len);
/* A whole message with all its descriptors, or false and none. */
bool channel_receive_fds(int fd, void *message, size_t len, int *fds, size_t count) NODISCARD;
/* Wait until there is something to receive, or the peer is gone. */
bool channel_wait(int fd, int64_t deadline_ms) NODISCARD;

/* Memory shared with one process: of a fixed size that neither side can change. */
struct sandbox_memory {
    int fd;
    uint8_t *data;
    size_t len;
};
bool sandbox_memory_new(struct sandbox_memory *ret, size_t len, struct error *err) NODISCARD;
void sandbox_memory_done(struct sandbox_memory *memory);
/* Give the pages from `offset` on back to the system; they read as 0. */
void sandbox_memory_drop(const struct sandbox_memory *memory, size_t offset);
/* The process's view, with a page at its end that is not to be touched (SIGBUS). NULL on failure.
 */
uint8_t *sandbox_memory_map(int fd, size_t len, bool writable);

/* The input's memory starts with this; the input itself follows at SANDBOX_INPUT_OFFSET. */
struct sandbox_control {
    atomic_bool cancelled;
};
enum { SANDBOX_INPUT_OFFSET = 4096 };

/* --- sandbox_zygote.c, sandbox_child.c: never return --- */

_Noreturn void sandbox_zygote_main(int fd, const struct sandbox_code *code, pid_t parent);
_Noreturn void sandbox_child_main(const struct sandbox_code *code,
                                  const struct sandbox_limits *limits, const int fds[ZYGOTE_FDS],
                                  pid_t zygote);
/* Shut this process in as a process is, say on the socket `fd` how that went, and end. */
_Noreturn void sandbox_trial_main(int fd, pid_t zygote);
/* Die with the parent; ends the process if it is gone already. */
void sandbox_die_with(pid_t parent);

/* --- sandbox.c: what the parent asks of the zygote. Thread-safe. --- */

struct sandbox;

/* A new process with these descriptors, which stay the caller's; it will say when it is ready. */
bool sandbox_fork(struct sandbox *sandbox, const struct sandbox_limits *limits,
                  const int fds[ZYGOTE_FDS], pid_t *ret, struct error *err) NODISCARD;
/* Kill the process unless it has ended already, and say how it did (waitpid's status). False: the
 * zygote is gone, and the process with it. */
bool sandbox_end(struct sandbox *sandbox, pid_t pid, int *status) NODISCARD;

/* --- sandbox_lock.c, sandbox_filter.c --- */

/* Give up everything but SANDBOX_FD and what is mapped. ERROR_UNAVAILABLE says which step failed.
 */
bool sandbox_lock(const struct sandbox_limits *limits, pid_t zygote, struct error *err) NODISCARD;
/* The system calls a process may make, from here on. */
bool sandbox_filter(struct error *err) NODISCARD;
