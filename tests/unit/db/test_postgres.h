/* A PostgreSQL server for a test program: tests/servers/postgres.sh. */
#pragma once

#include "../test_cases.h"
#include "../test_folder.h"
#include "base/clock.h"
#include "db/db.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct test_postgres {
    char folder[TEST_FOLDER_MAX];
    int port;
    pid_t pid; /* 0: there is none */
    char url[128];
};

static inline int test_free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(fd, (struct sockaddr *)&at, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) != 0)
        abort();
    close(fd);
    return ntohs(at.sin_port);
}

/* Start it, and wait until it answers. False: it is not installed. */
static inline bool test_postgres_launch(struct test_postgres *p)
{
    char port[16];
    int status;

    snprintf(port, sizeof(port), "%d", p->port);
    p->pid = fork();
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (freopen("/dev/null", "w", stderr) != NULL)
            execl("/bin/bash", "bash", "tests/servers/postgres.sh", p->folder, port, (char *)NULL);
        _exit(127);
    }
    for (;;) {
        struct error err = {0};
        struct db *db = db_open(&(struct db_options){.url = p->url, .connect_ms = 5000}, &err);

        if (db != NULL) {
            db_close(db);
            return true;
        }
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            p->pid = 0;
            return false;
        }
        clock_pause(20);
    }
}

static inline bool test_postgres_start(struct test_postgres *p)
{
    if (test_folder_make(p->folder) != 0)
        abort();
    p->port = test_free_port();
    snprintf(p->url, sizeof(p->url), "postgresql://darkroom@127.0.0.1:%d/postgres", p->port);
    return test_postgres_launch(p);
}

static inline void test_postgres_kill(struct test_postgres *p, int signal)
{
    if (p->pid <= 0)
        return;
    kill(p->pid, signal);
    waitpid(p->pid, NULL, 0);
    p->pid = 0;
}

static inline void test_postgres_stop(struct test_postgres *p)
{
    test_postgres_kill(p, SIGQUIT);
    if (*p->folder != '\0')
        test_folder_remove(p->folder);
}
