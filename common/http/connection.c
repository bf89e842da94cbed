#include "http/connection.h"

#include "base/clock.h"

#include <linux/tcp.h> /* newer than netinet/tcp.h */
#include <netinet/in.h>
#include <sys/socket.h>

uint64_t connection_bytes_received(const struct connection *c)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);

    /* an older kernel fills in less and leaves the rest zero */
    return getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 ? info.tcpi_bytes_received
                                                                      : 0;
}

void connection_enter(struct connection *c, enum phase phase)
{
    if (c->wake == NULL && c->phase < PHASE_REFUSED && phase >= PHASE_REFUSED)
        atomic_fetch_add(&c->all->leaving, 1);
    c->phase = phase;
    c->since_ms = clock_monotonic_ms();
}

void connection_release_body(struct connection *c)
{
    buffer_done(&c->body);
    byte_budget_give(c->all->budget, c->charged);
    c->charged = 0;
}

void connection_shut_down(struct connection *c)
{
    connection_enter(c, PHASE_CLOSING);
    if (c->wake != NULL)
        c->wake(c->wake_ctx);
    else
        shutdown(c->fd, SHUT_RDWR);
}

void connection_answer(struct connection *c, enum error_code code, const char *message)
{
    struct error err;

    error_set(&err, code, "%s", message);
    if (c->wake == NULL)
        refusal_send(c->fd, &err, c->request_id, &c->look);
    connection_release_body(c);
    c->refused_status = error_http_status(code);
    connection_enter(c, PHASE_REFUSED);
    c->until_ms = c->since_ms + REFUSAL_LINGER_MS;
    if (c->wake == NULL)
        return;
    c->refusal = err;
    c->until_ms = INT64_MAX; /* its thread answers, and begins the reply then */
    c->wake(c->wake_ctx);
}
