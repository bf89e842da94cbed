#include "http/listener.h"

#include "base/strings.h"
#include "http/server_options.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum {
    BACKLOG = 1024,
    OTHER_FDS = 256, /* store, outbox, pushes, log … */
};

int listener_open(const char *host, int port, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    const int on = 1;

    snprintf(service, sizeof(service), "%d", port);
    int code = getaddrinfo(host, service, &hints, &list);
    if (code != 0) {
        error_set(err, ERROR_CONFIG, "HOST=%s: %s", host, gai_strerror(code));
        return -1;
    }
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
              bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
    if (!ok) {
        error_set(err, ERROR_CONFIG, "cannot listen on %s:%d: %s", host, port, strerror(errno));
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

int listener_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char service[8];
    int64_t port = 0;

    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0 ||
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, service, sizeof(service),
                    NI_NUMERICSERV) != 0 ||
        !string_to_int64(service, 0, 65535, &port))
        return 0;
    return (int)port;
}

bool listener_raise_fd_limit(int64_t max_connections, struct error *err)
{
    struct rlimit limit;
    rlim_t need = (rlim_t)max_connections + CONNECTIONS_SPARE + OTHER_FDS;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= need)
        return true;
    limit.rlim_cur = need;
    if (limit.rlim_max < need)
        limit.rlim_max = need; /* allowed to root */
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return true;
    return error_set(err, ERROR_CONFIG,
                     "MAX_CONNECTIONS=%lld needs %llu file descriptors: raise `ulimit -n`",
                     (long long)max_connections, (unsigned long long)need);
}
