/* A scripted HTTP server on a free port of 127.0.0.1: it runs a function for every connection. */
#pragma once

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TEST_SERVER_CONNECTIONS = 256 };

struct test_server {
    int port;
    atomic_bool stop; /* answer what was asked, and return */
    void *ctx;
    /* the rest is the server's own */
    void (*serve)(struct test_server *server, int fd);
    bool one_at_a_time;
    int listener;
    pthread_t thread;
    atomic_int open;
    pthread_mutex_t lock;
    struct test_connection {
        struct test_server *server;
        int fd; /* 0: free */
    } connections[TEST_SERVER_CONNECTIONS];
};

static inline void *test_server_connection(void *arg)
{
    struct test_connection *c = arg;
    struct test_server *s = c->server;
    int fd = c->fd;

    s->serve(s, fd);
    pthread_mutex_lock(&s->lock);
    c->fd = 0;
    close(fd);
    pthread_mutex_unlock(&s->lock);
    s->open--;
    return NULL;
}

static inline void *test_server_main(void *arg)
{
    struct test_server *s = arg;
    int fd;

    while ((fd = accept(s->listener, NULL, NULL)) >= 0) {
        struct test_connection *c = s->connections;
        pthread_t thread;

        pthread_mutex_lock(&s->lock);
        while (c->fd != 0)
            c++;
        *c = (struct test_connection){s, fd};
        if (s->stop)
            shutdown(fd, SHUT_RD);
        pthread_mutex_unlock(&s->lock);
        if (++s->open == TEST_SERVER_CONNECTIONS)
            abort();
        if (s->one_at_a_time)
            test_server_connection(c);
        else if (pthread_create(&thread, NULL, test_server_connection, c) != 0 ||
                 pthread_detach(thread) != 0)
            abort();
    }
    return NULL;
}

/* `serve` runs in a thread for each connection, or, one_at_a_time, in one thread for all of them.
 * The server closes the connection when it returns. `port` 0: any. */
static inline void test_server_start(struct test_server *s,
                                     void (*serve)(struct test_server *server, int fd),
                                     bool one_at_a_time, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t len = sizeof(a);

    signal(SIGPIPE, SIG_IGN); /* of clients that leave */
    s->serve = serve;
    s->one_at_a_time = one_at_a_time;
    s->stop = false;
    pthread_mutex_init(&s->lock, NULL);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) != 0 ||
        bind(s->listener, (struct sockaddr *)&a, len) != 0 || listen(s->listener, 256) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&a, &len) != 0 ||
        pthread_create(&s->thread, NULL, test_server_main, s) != 0)
        abort();
    s->port = ntohs(a.sin_port);
}

/* Returns when all connections have ended. To `serve` they end when it reads, not when it writes.
 */
static inline void test_server_stop(struct test_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    for (size_t i = 0; i < TEST_SERVER_CONNECTIONS; i++)
        if (s->connections[i].fd != 0)
            shutdown(s->connections[i].fd, SHUT_RD);
    pthread_mutex_unlock(&s->lock);
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    while (s->open > 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* One request with its body, a string in `text` of `size` bytes. False: the connection ended. */
static inline bool test_read_request(int fd, char *text, size_t size)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = recv(fd, text + len, size - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "\r\nContent-Length: ");
        size_t body = length != NULL && length < end ? (size_t)atol(length + 18) : 0;
        if (end != NULL && len >= (size_t)(end + 4 - text) + body)
            return true;
    }
}
