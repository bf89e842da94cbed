/* A service's process in miniature, for tests of its death and of its surroundings. */
#ifndef DARKROOM_TEST_SANDBOX_PROCESS_H
#define DARKROOM_TEST_SANDBOX_PROCESS_H

#include "test_sandbox_jobs.h"

#include <stdio.h>

/* Run `body` in a process of its own, as a service would be: one thread, one sandbox. */
static inline int status_of(void (*body)(int fd), int *pid_fd)
{
    int fds[2], status;

    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        body(fds[1]);
        _exit(0);
    }
    close(fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (pid_fd != NULL)
        *pid_fd = fds[0];
    else
        close(fds[0]);
    return status;
}

static inline struct sandbox *started(const struct sandbox_code *code)
{
    struct error err = {0};
    struct sandbox *sandbox = sandbox_start(code, &err);

    if (sandbox == NULL)
        _exit(20);
    return sandbox;
}

static inline pid_t zygote_of(struct sandbox_process *worker)
{
    char path[64], text[512];
    int ppid = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", sandbox_process_pid(worker));
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL ||
        sscanf(strrchr(text, ')'), ") %*c %d", &ppid) != 1)
        _exit(21);
    fclose(file);
    return ppid;
}

#endif
