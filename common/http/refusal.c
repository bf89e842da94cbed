#include "http/refusal.h"

#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum { BACKLOG_MAX = 1024, TEXT_MAX = 8192 };

static bool compose(const struct error *err, const char *request_id,
                    const struct refusal_look *look, struct buffer *out, struct error *oom)
{
    CLEANUP(reply_done) struct reply reply = reply_error(err);

    reply.content_type = error_form_content_type(look->form);
    if (look->call != NULL)
        look->call->close(look->req, &reply);
    else if (!reply_error_body(look->form, err, request_id, &reply.body, oom))
        return false;
    return reply_on_the_wire(&reply, request_id, look->lines, out, oom);
}

void refusal_send(int fd, const struct error *err, const char *request_id,
                  const struct refusal_look *look)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(TEXT_MAX);
    struct error oom;

    if (compose(err, request_id, look, &text, &oom))
        send(fd, text.data, text.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
}

/* One read into the void: the bytes discarded, 0 at the end of the stream. With MSG_TRUNC the
 * kernel does not even copy them (tcp(7)). */
static ssize_t discard(int fd)
{
    uint8_t scratch[16384];
    ssize_t n = recv(fd, scratch, sizeof(scratch), MSG_DONTWAIT | MSG_TRUNC);

    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 1 : n;
}

void refusal_linger(int fd, int64_t max_bytes)
{
    int64_t deadline = clock_monotonic_ms() + REFUSAL_LINGER_MS;

    shutdown(fd, SHUT_WR);
    while (max_bytes > 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = clock_left_ms(deadline);
        ssize_t n = left > 0 && poll(&p, 1, (int)left) > 0 ? discard(fd) : 0;
        if (n <= 0)
            return;
        max_bytes -= n;
    }
}

/* Let no new connection into the backlog: who tries (SYN without ACK, RFC 9293) is not answered,
 * tries again a second later, and is refused then. Without it, some would come between the last
 * accept and the close, to be reset. Who has had our answer may still complete the handshake.
 * Some kernels want CAP_NET_ADMIN for a filter: there the backlog is made as short as it gets. */
static void drop_newcomers(int listen_fd)
{
    enum { FLAGS = 13, SYN = 0x02, ACK = 0x10 }; /* of the TCP header, where the filter begins */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    const struct sock_fprog program = {.len = ARRAY_SIZE(code), .filter = code};

    if (setsockopt(listen_fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
        listen(listen_fd, 0);
}

/* The next of the backlog, or of the handshakes that were under way; -1: there is none. */
static int next_newcomer(int listen_fd)
{
    enum { HANDSHAKE_MS = 20 };
    struct pollfd p = {.fd = listen_fd, .events = POLLIN};

    return poll(&p, 1, HANDSHAKE_MS) > 0
               ? accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)
               : -1;
}

void refusal_of_backlog(int listen_fd, const struct error *err, int linger_ms)
{
    int64_t deadline = clock_monotonic_ms() + linger_ms;
    struct pollfd *clients = xcalloc(BACKLOG_MAX, sizeof(*clients));
    nfds_t count = 0, open = 0;
    char id[UUID_LEN + 1];

    drop_newcomers(listen_fd);
    while (count < BACKLOG_MAX && clock_left_ms(deadline) > 0) {
        int fd = next_newcomer(listen_fd);
        if (fd < 0 || !string_uuid(id))
            break;
        refusal_send(fd, err, id, &(struct refusal_look){.lines = ""});
        clients[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    close(listen_fd); /* at once: who connects later is refused rather than left unanswered */
    open = count;
    while (open > 0 && clock_left_ms(deadline) > 0 &&
           poll(clients, count, (int)clock_left_ms(deadline)) > 0) {
        for (nfds_t i = 0; i < count; i++) {
            if (clients[i].revents == 0 || discard(clients[i].fd) > 0)
                continue;
            close(clients[i].fd);
            clients[i].fd = -1; /* poll ignores it */
            open--;
        }
    }
    for (nfds_t i = 0; i < count; i++)
        if (clients[i].fd >= 0)
            close(clients[i].fd);
    free(clients);
}
