#include "events/amqp/reconnect.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <poll.h>
#include <unistd.h>

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MOST_MS = 5000,
    SOUND_MS = 1000, /* a connection that ends earlier has failed, too */
};

struct amqp_link *amqp_reconnect_open(struct amqp_reconnect *r, const struct amqp_options *options,
                                      struct error *err)
{
    struct amqp_link *link = amqp_link_open(options, err);

    if (link == NULL)
        return NULL;
    if (r->failing)
        log_info("RabbitMQ is back");
    metric_add(METRIC_BROKER, "outcome=\"connected\"", 1);
    r->failing = false;
    r->opened_ms = clock_monotonic_ms();
    return link;
}

int64_t amqp_reconnect_pause_ms(struct amqp_reconnect *r, const struct error *why)
{
    if (!r->failing)
        log_warning("no connection to RabbitMQ; trying again",
                    F("error", (const char *)why->message));
    r->failing = true;
    if (r->opened_ms != 0 && clock_monotonic_ms() - r->opened_ms >= SOUND_MS)
        r->backoff_ms = 0;
    r->opened_ms = 0;
    r->backoff_ms = r->backoff_ms == 0                    ? BACKOFF_FIRST_MS
                    : r->backoff_ms < BACKOFF_MOST_MS / 2 ? 2 * r->backoff_ms
                                                          : BACKOFF_MOST_MS;
    return 1 + clock_jitter_ms(r->backoff_ms);
}

void amqp_wait(const struct amqp_link *link, int wake, int64_t timeout_ms)
{
    struct pollfd fds[] = {{.fd = wake, .events = POLLIN},
                           {.fd = link != NULL ? amqp_link_fd(link) : -1, .events = POLLIN}};
    uint64_t count;

    if (poll(fds, ARRAY_SIZE(fds), (int)timeout_ms) > 0 && fds[0].revents != 0)
        (void)!read(wake, &count, sizeof(count));
}

void amqp_wake(int wake)
{
    const uint64_t one = 1;

    (void)!write(wake, &one, sizeof(one));
}
