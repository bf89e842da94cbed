/* A push endpoint that agrees to everything at once: sink PORT. Answers 204 to each request with a
 * Content-Length, until SIGTERM. One thread, so that /proc/PID/schedstat tells its CPU time. */
#include "program.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 8192 };

struct peer {
    int fd;
    size_t len; /* of the header so far */

    char head[HEAD_MAX + 1];
};

static void peer_free(struct peer *p)
{
    close(p->fd);
    free(p);
}

static bool answer(int fd)
{
    static const char reply[] = "HTTP/1.1 204 No Content\r\n\r\n";

    return write(fd, reply, sizeof(reply) - 1) == (ssize_t)sizeof(reply) - 1;
}

/* Requests that are complete are answered; false: not HTTP as we expect it. */
static bool consume(struct peer *p)
{
    const char *end, *length;

    p->head[p->len] = '\0';
    while ((end = strstr(p->head, "\r\n\r\n")) != NULL) {
        size_t head = (size_t)(end - p->head) + 4, body, rest;

        length = strcasestr(p->head, "\r\nContent-Length:");
        if (length == NULL || length > end)
            return false;
        body = (size_t)strtoul(length + 17, NULL, 10);
        if (strcasestr(p->head, "100-continue") != NULL || head + body > HEAD_MAX)
            return false;
        if (p->len < head + body)
            return true;
        if (!answer(p->fd))
            return false;
        rest = p->len - head - body;
        memmove(p->head, p->head + head + body, rest + 1);
        p->len = rest;
    }
    return p->len < HEAD_MAX;
}

static void serve(struct peer *p)
{
    ssize_t n = read(p->fd, p->head + p->len, HEAD_MAX - p->len);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        peer_free(p);
        return;
    }
    p->len += (size_t)n;
    if (!consume(p)) {
        fprintf(stderr, "sink: not an event: %.200s\n", p->head);
        peer_free(p);
    }
}

static void greet(int epoll, int listener)
{
    static const int on = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct peer *p;

    if (fd < 0)
        return;
    p = allocate(sizeof(*p));
    p->fd = fd;
    p->len = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd,
                  &(struct epoll_event){.events = EPOLLIN, .data.ptr = p}) != 0)
        peer_free(p);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    static const int on = 1;

    if (argc != 2)
        die("usage: sink PORT");
    address.sin_port = htons((uint16_t)number_arg("PORT", argv[1], 1, 65535));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 128) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN}) != 0)
        die("sink: %s", strerror(errno));
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                greet(epoll, listener);
            else
                serve(events[i].data.ptr);
        }
    }
}
