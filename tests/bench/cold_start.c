/* How long a service takes from exec to ready, as its first user sees it: a program is started, and
 * GET /readyz is tried until it answers 200. cold-start RUNS PORT PROGRAM
 * The environment is the program's; its output goes where ours does not: /dev/null. One JSON object
 * with all times in milliseconds. */
#include "program.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const double give_up_s = 10;

static bool is_ready(const struct sockaddr_in *address)
{
    static const char request[] = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n";
    char reply[16] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
              write(fd, request, sizeof(request) - 1) == (ssize_t)sizeof(request) - 1 &&
              read(fd, reply, sizeof(reply) - 1) >= 12 && memcmp(reply + 8, " 200", 4) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

static pid_t start(char *program)
{
    char *argv[] = {program, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    int code = posix_spawn(&pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (code != 0)
        die("%s: %s", program, strerror(code));
    return pid;
}

/* Tries follow each other by a tenth of a millisecond: the second core is the service's. */
static double measure_ms(char *program, const struct sockaddr_in *address)
{
    const struct timespec pause = {.tv_nsec = 100000};
    double from = now_s(), ready;
    pid_t pid = start(program);
    int status;

    while (!is_ready(address)) {
        if (now_s() > from + give_up_s || waitpid(pid, &status, WNOHANG) == pid) {
            kill(pid, SIGKILL);
            die("%s did not become ready", program);
        }
        nanosleep(&pause, NULL);
    }
    ready = now_s();
    kill(pid, SIGTERM);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die("%s did not end as it should", program);
    return 1e3 * (ready - from);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (argc != 4)
        die("usage: cold-start RUNS PORT PROGRAM");
    long runs = number_arg("RUNS", argv[1], 1, 1000);
    address.sin_port = htons((uint16_t)number_arg("PORT", argv[2], 1, 65535));
    printf("{\"ms\": [");
    for (long i = 0; i < runs; i++)
        printf("%s%.3f", i == 0 ? "" : ", ", measure_ms(argv[3], &address));
    printf("]}\n");
    return 0;
}
