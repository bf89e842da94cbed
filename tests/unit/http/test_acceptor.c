#include "../test_cases.h"
#include "http/acceptor.h"

#include <arpa/inet.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/socket.h>

enum { MOST = 3 };

struct fixture {
    struct byte_budget budget;
    struct connections *all;
    struct acceptor *acceptor;
    int listener;
    sem_t taken;
    bool http2; /* of the last one taken */
};

/* Closed at once: that it was taken over is what matters. */
static void take(void *ctx, struct connection *c, int fd, bool http2)
{
    struct fixture *f = ctx;

    f->http2 = http2;
    connections_remove(c);
    close(fd);
    sem_post(&f->taken);
}

static int open_fixture(void **state)
{
    static struct fixture f;
    struct error err = {0};

    f = (struct fixture){.budget = {.max = 1 << 20}};
    sem_init(&f.taken, 0, 0);
    f.listener = listener_open("127.0.0.1", 0, &err);
    f.all = connections_new(&(struct connections_options){.max_connections = 100,
                                                          .max_body_bytes = 1000,
                                                          .budget = &f.budget},
                            &err);
    f.acceptor = acceptor_start(
        &(struct acceptor_options){
            .listen_fd = f.listener, .connections = f.all, .most = MOST, .take = take, .ctx = &f},
        &err);
    assert_non_null(f.acceptor);
    *state = &f;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *f = *state;

    acceptor_stop(f->acceptor);
    assert_int_equal(connections_count(f->all), 0);
    connections_free(f->all);
    close(f->listener);
    sem_destroy(&f->taken);
    return 0;
}

static int connect_to(const struct fixture *f)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)listener_port(f->listener))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void wait_for_count(const struct fixture *f, int count)
{
    while (connections_count(f->all) != count)
        poll(NULL, 0, 1);
}

/* The last of `pieces` decides. */
static void check(struct fixture *f, const char *const *pieces, bool http2)
{
    int fd = connect_to(f);

    for (; *pieces != NULL; pieces++) {
        wait_for_count(f, 1); /* undecided */
        assert_int_equal(sem_trywait(&f->taken), -1);
        assert_int_equal(send(fd, *pieces, strlen(*pieces), 0), strlen(*pieces));
    }
    sem_wait(&f->taken);
    assert_int_equal(f->http2, http2);
    close(fd);
}

TEST_WITH(the_first_bytes_decide, open_fixture, close_fixture)
{
    check(*state, (const char *[]){"G", NULL}, false);
    check(*state, (const char *[]){"P", "O", NULL}, false);
    check(*state, (const char *[]){"PR", "OPFIND / HTTP/1.1\r\n", NULL}, false);
    check(*state, (const char *[]){"PRI", NULL}, true);
    check(*state, (const char *[]){"P", "R", "I * HTTP/2.0\r\n\r\nSM\r\n\r\n", NULL}, true);
}

TEST_WITH(who_stops_in_the_middle_is_not_kept, open_fixture, close_fixture)
{
    struct fixture *f = *state;
    int fd = connect_to(f);

    assert_int_equal(send(fd, "PR", 2, 0), 2);
    shutdown(fd, SHUT_WR);
    sem_wait(&f->taken);
    assert_false(f->http2);
    close(fd);
}

TEST_WITH(who_goes_away_is_forgotten, open_fixture, close_fixture)
{
    struct fixture *f = *state;
    int fd = connect_to(f);

    wait_for_count(f, 1);
    close(fd);
    wait_for_count(f, 0);
    assert_int_equal(sem_trywait(&f->taken), -1);
}

TEST_WITH(above_the_most_they_wait_in_the_backlog, open_fixture, close_fixture)
{
    struct fixture *f = *state;
    int fds[MOST + 1];

    for (int i = 0; i <= MOST; i++)
        fds[i] = connect_to(f);
    wait_for_count(f, MOST);
    assert_int_equal(send(fds[MOST], "G", 1, 0), 1);
    assert_int_equal(sem_trywait(&f->taken), -1);
    close(fds[0]);
    sem_wait(&f->taken);
    for (int i = 1; i <= MOST; i++)
        close(fds[i]);
}

TEST_WITH(after_quiesce_none_is_accepted, open_fixture, close_fixture)
{
    struct fixture *f = *state;
    int before = connect_to(f);

    wait_for_count(f, 1);
    acceptor_quiesce(f->acceptor);
    int after = connect_to(f);
    assert_int_equal(send(after, "G", 1, 0), 1);
    assert_int_equal(send(before, "G", 1, 0), 1);
    sem_wait(&f->taken); /* who was there before still is served */
    int fd = accept(f->listener, NULL, NULL);
    assert_true(fd >= 0);
    close(fd);
    close(before);
    close(after);
}

TEST_MAIN(NULL, NULL)
