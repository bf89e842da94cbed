#include "../test_cases.h"
#include "http/connections.h"

#include "base/clock.h"
#include "http/admission.h"
#include "http/reaper.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

enum { STEP = 65536, BODY_MAX = 8 * STEP, STALL_MS = 10000, MIN_RATE = 1024 };

/* Both ends of a TCP connection. */
struct pair {
    int server, client;
};

static struct pair pair_new(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct pair pair;

    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    pair.client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(pair.client, (struct sockaddr *)&address, len), 0);
    pair.server = accept(listener, NULL, NULL);
    assert_true(pair.server >= 0);
    close(listener);
    return pair;
}

static void pair_done(struct pair *pair)
{
    close(pair->server);
    close(pair->client);
}

/* What the client gets until the end of the stream. */
static void read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;

    while ((n = recv(fd, out + len, size - 1 - len, 0)) > 0)
        len += (size_t)n;
    out[len] = '\0';
}

static bool is_ended(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;

    return poll(&p, 1, 0) == 1 && recv(fd, &byte, 1, MSG_PEEK) == 0;
}

struct fixture {
    struct byte_budget budget;
    struct connections *all;
};

static void fixture_open(struct fixture *f, int64_t max_connections, int64_t budget)
{
    struct error err = {0};

    *f = (struct fixture){.budget = {.max = budget}};
    f->all = connections_new(&(struct connections_options){.max_connections = max_connections,
                                                           .max_body_bytes = BODY_MAX,
                                                           .body_stall_ms = STALL_MS,
                                                           .body_min_rate = MIN_RATE,
                                                           .budget = &f->budget},
                             &err);
    assert_non_null(f->all);
}

static const char chunk[STEP];

TEST(a_body_is_collected_and_given_back)
{
    struct fixture f;
    struct pair pair = pair_new();
    struct error err = {0};
    struct bytes body;

    fixture_open(&f, 4, BODY_MAX);
    struct connection *c = connections_add(f.all, pair.server);
    assert_non_null(c);
    /* whatever the client says will come, what has come is charged */
    const int64_t expected[] = {0, 1, STEP + 3, BODY_MAX, INT64_MAX};
    for (size_t round = 0; round < sizeof(expected) / sizeof(*expected); round++) {
        connection_begin_body(c, "id", expected[round]);
        assert_int_equal(connection_append_body(c, "abc", 3, &err), CONNECTION_APPENDED);
        assert_int_equal(f.budget.used, STEP);
        assert_int_equal(connection_append_body(c, chunk, STEP, &err), CONNECTION_APPENDED);
        assert_int_equal(f.budget.used, 2 * STEP);
        assert_true(connection_begin_handling(c, &body));
        assert_int_equal(body.len, STEP + 3);
        assert_memory_equal(body.data, "abc", 3);
        connection_drop_body(c);
        assert_int_equal(f.budget.used, 0);
        connection_begin_reply(c, 10);
        connection_end_request(c);
    }
    assert_int_equal(connection_refused_status(c), 0);
    assert_int_equal(connections_count(f.all), 1);
    connections_remove(c);
    assert_int_equal(connections_count(f.all), 0);
    connections_free(f.all);
    pair_done(&pair);
}

TEST(a_body_over_the_limit_is_refused_on_the_wire)
{
    struct fixture f;
    struct pair pair = pair_new();
    struct error err = {0};
    struct bytes body;
    char text[4096];

    fixture_open(&f, 4, 4 * BODY_MAX);
    struct connection *c = connections_add(f.all, pair.server);
    connection_begin_body(c, "the-id", 0);
    for (int i = 0; i < BODY_MAX / STEP; i++)
        assert_int_equal(connection_append_body(c, chunk, STEP, &err), CONNECTION_APPENDED);
    assert_int_equal(connection_append_body(c, "x", 1, &err), CONNECTION_FAILED);
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    connection_refuse(c, &err);
    assert_int_equal(connection_refused_status(c), 413);
    assert_int_equal(f.budget.used, 0);
    assert_int_equal(connection_append_body(c, "x", 1, &err), CONNECTION_ANSWERED);
    assert_false(connection_begin_handling(c, &body));
    read_all(pair.client, text, sizeof(text));
    assert_memory_equal(text, "HTTP/1.1 413 ", 13);
    assert_non_null(strstr(text, "the-id"));
    connection_end_request(c);
    connections_remove(c);
    connections_free(f.all);
    pair_done(&pair);
}

TEST(a_full_budget_ends_the_slowest)
{
    struct fixture f;
    struct pair slow_pair = pair_new(), quick_pair = pair_new();
    struct error err = {0};
    char text[4096];

    fixture_open(&f, 4, 4 * STEP);
    struct connection *slow = connections_add(f.all, slow_pair.server);
    struct connection *quick = connections_add(f.all, quick_pair.server);
    connection_begin_body(slow, "slow", 0);
    assert_int_equal(connection_append_body(slow, "x", 1, &err), CONNECTION_APPENDED);
    connection_begin_body(quick, "quick", 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(connection_append_body(quick, chunk, STEP, &err), CONNECTION_APPENDED);
    assert_int_equal(connection_refused_status(slow), 503);
    assert_int_equal(f.budget.used, 4 * STEP);
    read_all(slow_pair.client, text, sizeof(text));
    assert_memory_equal(text, "HTTP/1.1 503 ", 13);
    /* alone and still too much: it has to go itself */
    assert_int_equal(connection_append_body(quick, "x", 1, &err), CONNECTION_ANSWERED);
    assert_int_equal(connection_refused_status(quick), 503);
    assert_int_equal(f.budget.used, 0);
    connections_remove(slow);
    connections_remove(quick);
    connections_free(f.all);
    pair_done(&slow_pair);
    pair_done(&quick_pair);
}

TEST(a_budget_that_others_hold_refuses)
{
    struct fixture f;
    struct pair pair = pair_new();
    struct error err = {0};

    fixture_open(&f, 4, 2 * STEP);
    assert_true(byte_budget_take(&f.budget, 2 * STEP)); /* say, replies on their way */
    struct connection *c = connections_add(f.all, pair.server);
    connection_begin_body(c, "id", 0);
    assert_int_equal(connection_append_body(c, "x", 1, &err), CONNECTION_FAILED);
    assert_int_equal(err.code, ERROR_OVERLOADED);
    connection_refuse(c, &err);
    assert_int_equal(f.budget.used, 2 * STEP);
    connections_remove(c);
    connections_free(f.all);
    pair_done(&pair);
}

TEST(the_longest_idle_makes_room)
{
    struct fixture f;
    struct pair pairs[4];
    struct connection *c[4];

    fixture_open(&f, 2, BODY_MAX);
    for (int i = 0; i < 4; i++)
        pairs[i] = pair_new();
    c[0] = connections_add(f.all, pairs[0].server);
    connection_begin_body(c[0], "busy", 0);
    c[1] = connections_add(f.all, pairs[1].server);
    assert_false(connections_over_limit(f.all));
    c[2] = connections_add(f.all, pairs[2].server);
    assert_true(is_ended(pairs[1].client));
    assert_false(is_ended(pairs[0].client));
    /* the one on its way out is not counted against the limit */
    assert_int_equal(connections_count(f.all), 3);
    assert_false(connections_over_limit(f.all));
    connection_begin_body(c[2], "busy", 0);
    c[3] = connections_add(f.all, pairs[3].server);
    assert_true(connections_over_limit(f.all));
    assert_false(is_ended(pairs[0].client));
    assert_false(is_ended(pairs[2].client));
    for (int i = 0; i < 4; i++) {
        connections_remove(c[i]);
        pair_done(&pairs[i]);
    }
    assert_int_equal(connections_count(f.all), 0);
    assert_false(connections_over_limit(f.all));
    connections_free(f.all);
}

TEST(spare_places_are_given_back)
{
    struct fixture f;
    struct pair pairs[5];
    struct connection *c[5];

    fixture_open(&f, 2, BODY_MAX);
    for (int i = 0; i < 5; i++)
        pairs[i] = pair_new();
    for (int i = 0; i < 4; i++) {
        c[i] = connections_add(f.all, pairs[i].server);
        connection_begin_body(c[i], "busy", 0);
    }
    assert_true(connections_over_limit(f.all));
    for (int i = 0; i < 4; i++)
        connection_end_request(c[i]);
    c[4] = connections_add(f.all, pairs[4].server);
    assert_false(connections_over_limit(f.all));
    assert_false(is_ended(pairs[4].client));
    for (int i = 0; i < 5; i++) {
        connections_remove(c[i]);
        pair_done(&pairs[i]);
    }
    connections_free(f.all);
}

TEST(a_closed_connection_is_never_handled)
{
    struct fixture f;
    struct pair first = pair_new(), second = pair_new();
    struct error err = {0};
    struct bytes body;

    fixture_open(&f, 1, BODY_MAX);
    struct connection *c = connections_add(f.all, first.server);
    struct connection *other = connections_add(f.all, second.server); /* evicts the first */
    connection_begin_body(c, "late", 0);
    assert_int_equal(connection_append_body(c, "x", 1, &err), CONNECTION_ANSWERED);
    assert_false(connection_begin_handling(c, &body));
    connections_remove(c);
    connections_remove(other);
    connections_free(f.all);
    pair_done(&first);
    pair_done(&second);
}

TEST(bodies_are_cut_at_the_deadline)
{
    struct fixture f;
    struct pair pairs[2] = {pair_new(), pair_new()};
    struct error err = {0};
    struct bytes body;
    char text[4096];

    fixture_open(&f, 4, BODY_MAX);
    struct connection *sending = connections_add(f.all, pairs[0].server);
    struct connection *handled = connections_add(f.all, pairs[1].server);
    connection_begin_body(sending, "sending", 0);
    assert_int_equal(connection_append_body(sending, "x", 1, &err), CONNECTION_APPENDED);
    connection_begin_body(handled, "handled", 0);
    assert_true(connection_begin_handling(handled, &body));
    assert_true(connections_any_busy(f.all));
    int64_t deadline = clock_monotonic_ms() + 100;
    connections_cut_bodies(f.all, deadline);
    read_all(pairs[0].client, text, sizeof(text));
    assert_true(clock_monotonic_ms() >= deadline);
    assert_memory_equal(text, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(text, "shutting-down"));
    assert_int_equal(connection_refused_status(handled), 0);
    connections_remove(sending);
    assert_true(connections_any_busy(f.all));
    connection_end_request(handled);
    assert_false(connections_any_busy(f.all));
    assert_int_equal(send(pairs[1].client, "G", 1, 0), 1);
    while (!connections_any_busy(f.all))
        usleep(1000); /* the byte is on its way */
    connections_remove(handled);
    connections_free(f.all);
    pair_done(&pairs[0]);
    pair_done(&pairs[1]);
}

TEST(lingering_reads_what_comes)
{
    struct fixture f;
    struct pair pair = pair_new();
    char text[16];

    fixture_open(&f, 4, BODY_MAX);
    struct connection *c = connections_add(f.all, pair.server);
    for (int i = 0; i < 3; i++)
        assert_int_equal(send(pair.client, chunk, 1000, 0), 1000);
    assert_int_equal(send(pair.server, "reply", 5, 0), 5);
    shutdown(pair.client, SHUT_WR); /* the client is done: the lingering ends at once */
    int64_t begun = clock_monotonic_ms();
    connection_linger(c);
    assert_true(clock_monotonic_ms() - begun < 1500);
    connections_remove(c);
    close(pair.server);
    read_all(pair.client, text, sizeof(text));
    assert_string_equal(text, "reply");
    close(pair.client);
    connections_free(f.all);
}

/* One request whose body is on its way, and a clock that the test sets. */
struct sender {
    struct fixture f;
    struct pair pair;
    struct connection *c;
    int64_t ahead_ms, now_ms;
};

static void sender_open(struct sender *s)
{
    s->pair = pair_new();
    s->ahead_ms = 1; /* never 0: the reaper's thread then waits in real time */
    clock_set_ahead(s->ahead_ms);
    fixture_open(&s->f, 4, BODY_MAX);
    s->c = connections_add(s->f.all, s->pair.server);
    connection_has_place(s->c, true);
    connection_begin_body(s->c, "id", 0);
    s->now_ms = clock_monotonic_ms();
}

static void sender_done(struct sender *s)
{
    connections_remove(s->c);
    connections_free(s->f.all);
    pair_done(&s->pair);
    clock_set_ahead(0);
}

static void look(struct fixture *f)
{
    pthread_mutex_lock(&f->all->mutex);
    reaper_look(f->all);
    pthread_mutex_unlock(&f->all->mutex);
}

/* Nothing for so long, then these bytes: whether the request is still on. What the test itself took
 * since the last step does not count. */
static bool goes_on(struct sender *s, int64_t pause_ms, size_t bytes)
{
    struct error err = {0};

    s->now_ms += pause_ms;
    s->ahead_ms += s->now_ms - clock_monotonic_ms();
    clock_set_ahead(s->ahead_ms);
    look(&s->f);
    return connection_append_body(s->c, chunk, bytes, &err) == CONNECTION_APPENDED;
}

/* 8 KB/s, pauses of 4 s in between, and one at the beginning. */
TEST(a_phone_gets_through)
{
    struct sender s;
    struct bytes body;

    sender_open(&s);
    assert_true(goes_on(&s, 4000, 8000));
    for (int i = 0; i < 40; i++)
        assert_true(goes_on(&s, i % 8 == 7 ? 4000 : 1000, 8000));
    assert_true(connection_begin_handling(s.c, &body));
    assert_int_equal(body.len, 41 * 8000);
    sender_done(&s);
}

TEST(a_body_that_stops_is_ended)
{
    struct sender s;
    char text[4096];

    sender_open(&s);
    assert_true(goes_on(&s, 100, STEP)); /* enough for the rate of a minute */
    assert_true(goes_on(&s, STALL_MS - 1000, 1));
    assert_false(goes_on(&s, STALL_MS + 1000, 1));
    assert_int_equal(connection_refused_status(s.c), 408);
    read_all(s.pair.client, text, sizeof(text));
    assert_non_null(strstr(text, "no byte of the body arrived for 10000 ms"));
    sender_done(&s);
}

/* Half the rate ends with the grace, and not before. */
TEST(a_slow_loris_ends)
{
    struct sender s;
    char text[4096];

    sender_open(&s);
    assert_true(goes_on(&s, CONNECTION_BODY_GRACE_MS * 6 / 10, MIN_RATE * 3 / 2));
    assert_false(goes_on(&s, CONNECTION_BODY_GRACE_MS * 6 / 10, MIN_RATE * 3 / 2));
    assert_int_equal(connection_refused_status(s.c), 408);
    read_all(s.pair.client, text, sizeof(text));
    assert_non_null(strstr(text, "at less than 1024 bytes/s"));
    sender_done(&s);
}

static void wake(void *ctx)
{
    (*(int *)ctx)++;
}

/* With all places taken, a body under 16 KiB/s is ended for a newcomer; a quicker one is not, nor
 * one on a light route, which has no place to give. */
TEST(a_slow_body_gives_its_place)
{
    const struct server_options options = {.max_inflight = 1, .max_connections = 4};
    struct counted first = {0}, second = {0}, third = {0};
    struct sender s;
    struct error err = {0};
    int woken = 0;

    sender_open(&s);
    struct connection *light = connections_add_stream(s.f.all, wake, &woken);
    connection_begin_body(light, "light", 0);
    struct admission admission = {.options = &options, .connections = s.f.all};
    assert_true(admission_begin(&admission, &first, false, &err));
    for (int i = 0; i < 6; i++) {
        assert_int_equal(connection_append_body(light, chunk, 4000, &err), CONNECTION_APPENDED);
        assert_true(goes_on(&s, 1000, 20000));
    }
    assert_fails(err, ERROR_OVERLOADED, admission_begin(&admission, &second, false, &err));
    admission_end(&admission, &second);
    assert_true(goes_on(&s, 9000, 1));
    assert_true(admission_begin(&admission, &third, false, &err));
    assert_int_equal(connection_refused_status(s.c), 503);
    assert_int_equal(woken, 0);
    admission_end(&admission, &third);
    admission_end(&admission, &first);
    connections_remove(light);
    sender_done(&s);
}

/* A stream of an HTTP/2 connection has no socket: its own thread is told, and answers. */
TEST(a_stream_is_woken)
{
    struct fixture f;
    struct error err = {0};
    int woken = 0;

    clock_set_ahead(1);
    fixture_open(&f, 1, BODY_MAX);
    struct connection *c = connections_add_stream(f.all, wake, &woken);
    assert_int_equal(connections_count(f.all), 0); /* its connection counts */
    assert_true(connections_any_busy(f.all));
    connection_begin_body(c, "id", 0);
    assert_int_equal(connection_append_body(c, chunk, STEP, &err), CONNECTION_APPENDED);
    assert_int_equal(connection_fate(c, &err), CONNECTION_FINE);
    clock_set_ahead(STALL_MS + 1000);
    look(&f);
    assert_int_equal(woken, 1);
    assert_int_equal(connection_fate(c, &err), CONNECTION_REFUSED);
    assert_int_equal(err.code, ERROR_TOO_SLOW);
    assert_int_equal(connection_refused_status(c), 408);
    assert_int_equal(atomic_load(&f.budget.used), 0);

    /* the clock of the reply, which nobody reads */
    connection_begin_reply(c, 0);
    assert_int_equal(connection_fate(c, &err), CONNECTION_FINE);
    clock_set_ahead(STALL_MS + 1000 + 31000);
    look(&f);
    assert_int_equal(woken, 2);
    assert_int_equal(connection_fate(c, &err), CONNECTION_SHUT_DOWN);
    assert_false(connections_over_limit(f.all));
    connections_remove(c);
    connections_free(f.all);
    clock_set_ahead(0);
}

/* It is idle without streams, and then the first to go; nobody but its thread ends it for that. */
TEST(an_http2_connection_is_idle_without_streams)
{
    struct fixture f;
    struct pair pairs[2] = {pair_new(), pair_new()};

    clock_set_ahead(1);
    fixture_open(&f, 1, BODY_MAX);
    struct connection *c = connections_add(f.all, pairs[0].server);
    connection_speaks_http2(c);
    connection_has_streams(c, true);
    assert_true(connections_any_busy(f.all));
    connection_has_streams(c, false);
    assert_false(connections_any_busy(f.all));
    clock_set_ahead(3600000);
    look(&f);
    assert_false(is_ended(pairs[0].client));
    struct connection *other = connections_add(f.all, pairs[1].server);
    assert_true(is_ended(pairs[0].client));
    connections_remove(c);
    connections_remove(other);
    connections_free(f.all);
    pair_done(&pairs[0]);
    pair_done(&pairs[1]);
    clock_set_ahead(0);
}

TEST_MAIN(NULL, NULL)
