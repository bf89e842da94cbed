/* events/push against a scripted HTTP server: a thread that answers by a function. */
#include "../test_cases.h"
#include "../test_folder.h"
#include "../test_http_server.h"
#include "base/clock.h"
#include "client/http_client.h"
#include "events/notification/notification.h"
#include "events/outbox/push.h"

enum { REQUEST_MAX = 16384 };

/* ---- the endpoint */

/* The status for the n-th request (from 0); 0: close without an answer. */
typedef int (*answer_fn)(int n);

static struct endpoint {
    struct test_server server;
    _Atomic(answer_fn) answer;
    atomic_int requests;
    atomic_int at_once, at_once_max;
    atomic_int delay_ms;
    pthread_mutex_t lock;
    char last[REQUEST_MAX];
} endpoint = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool answer_request(int fd, const char *text)
{
    char reply[128];
    int at_once = ++endpoint.at_once;
    int n = endpoint.requests++;
    answer_fn answer = endpoint.answer;

    if (at_once > endpoint.at_once_max)
        endpoint.at_once_max = at_once;
    pthread_mutex_lock(&endpoint.lock);
    strcpy(endpoint.last, text);
    pthread_mutex_unlock(&endpoint.lock);
    for (int i = 0; i < endpoint.delay_ms && !endpoint.server.stop; i += 10)
        sleep_ms(10);
    int status = answer(n);
    endpoint.at_once--;
    int len = snprintf(reply, sizeof(reply), "HTTP/1.1 %d X\r\n%s\r\n", status,
                       status == 204 ? "" : "Content-Length: 0\r\n");
    return status != 0 && send(fd, reply, (size_t)len, MSG_NOSIGNAL) == len;
}

static void serve(struct test_server *s, int fd)
{
    char text[REQUEST_MAX];

    while (test_read_request(fd, text, sizeof(text)) && answer_request(fd, text))
        ;
}

static void endpoint_start(answer_fn answer)
{
    endpoint.answer = answer;
    endpoint.requests = 0;
    endpoint.at_once = 0;
    endpoint.at_once_max = 0;
    endpoint.delay_ms = 0;
    test_server_start(&endpoint.server, serve, false, 0);
}

/* ---- the outbox and its publisher */

static char dir[TEST_FOLDER_MAX];
static char path[96];
static struct outbox *outbox;
static struct http_client *client;
static struct publisher *publisher;

static int setup(void **state)
{
    struct error err = {0};

    publisher = NULL;
    clock_set_ahead(0);
    if (test_folder_make(dir) != 0)
        return -1;
    snprintf(path, sizeof(path), "%s/outbox.db", dir);
    outbox = outbox_open(&(struct outbox_options){.path = path, .max_pending = 1000}, &err);
    client = http_client_new(&(struct http_client_options){0}, &err);
    return outbox == NULL || client == NULL ? -1 : 0;
}

static void publisher_end(void)
{
    if (publisher == NULL)
        return;
    publisher->stop(publisher, clock_monotonic_ms() + 5000);
    publisher->free(publisher);
    publisher = NULL;
}

static int teardown(void **state)
{
    publisher_end();
    http_client_free(client);
    outbox_close(outbox);
    return test_folder_remove(dir);
}

static void publisher_start(int64_t max_attempts, int64_t max_backoff_ms)
{
    char url[64];
    struct error err = {0};

    snprintf(url, sizeof(url), "http://127.0.0.1:%d/pubsub", endpoint.server.port);
    publisher = push_publisher_new(outbox,
                                   &(struct push_options){.url = url,
                                                          .token = "s3cret",
                                                          .client = client,
                                                          .concurrency = 4,
                                                          .max_attempts = max_attempts,
                                                          .max_age_s = 604800,
                                                          .timeout_ms = 60000,
                                                          .max_backoff_ms = max_backoff_ms},
                                   &err);
    if (publisher == NULL)
        fail_msg("%s", err.message);
}

static void publish(int n, char message_id[MESSAGE_ID_MAX])
{
    char id[SHA256_HEX_LEN + 1];
    struct error err = {0};

    snprintf(id, sizeof(id), "%064d", n);
    if (!publisher->publish(
            publisher,
            &(struct event){"file:///data/x.jpg", id, "image/jpeg", "00-1-2-03", NULL, NULL},
            clock_monotonic_ms() + 60000, message_id, &err))
        fail_msg("%s", err.message);
}

static void publish_many(int count)
{
    char message_id[MESSAGE_ID_MAX];

    for (int i = 0; i < count; i++)
        publish(i, message_id);
}

static bool wait_for(int64_t pending, int64_t dead)
{
    int64_t deadline_ms = clock_monotonic_ms() + 60000;

    while (outbox_pending(outbox) != pending || outbox_dead(outbox) != dead) {
        if (clock_left_ms(deadline_ms) == 0)
            return false;
        sleep_ms(5);
    }
    return true;
}

static void wait_for_requests(int count)
{
    for (int i = 0; endpoint.requests < count; i++) {
        assert_true(i < 20000);
        sleep_ms(1);
    }
}

/* ---- tests */

static int answer_200(int n)
{
    return 200;
}

static int answer_503(int n)
{
    return 503;
}

static int answer_400(int n)
{
    return 400;
}

TEST_WITH(test_request, setup, teardown)
{
    char message_id[MESSAGE_ID_MAX];
    CLEANUP(notification_done) struct notification told = {0};
    struct error err = {0};

    endpoint_start(answer_200);
    publisher_start(3, 50);
    publish(1, message_id);
    assert_true(wait_for(0, 0));
    test_server_stop(&endpoint.server);
    assert_int_equal(endpoint.requests, 1);
    assert_true(string_starts_with(endpoint.last, "POST /pubsub HTTP/1.1\r\n"));
    assert_non_null(strstr(endpoint.last, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(endpoint.last, "\r\nAuthorization: Bearer s3cret\r\n"));
    assert_non_null(strstr(endpoint.last, "\r\ntraceparent: 00-1-2-03\r\n"));
    const char *body = strstr(endpoint.last, "\r\n\r\n") + 4;
    const struct request request = {.body = bytes_from_str(body)};
    assert_true(notification_read(&request, &told, &err));
    assert_string_equal(told.events[0].id, message_id);
    assert_string_equal(told.events[0].uri, "file:///data/x.jpg");
}

static int status_under_test;

/* The status first; then what says how it was understood. */
static int answer_status_then_200(int n)
{
    return n == 0 ? status_under_test : 200;
}

TEST_WITH(test_statuses, setup, teardown)
{
    static const struct {
        int status;
        enum { ACK, COUNTS, ENDPOINT } meaning;
    } cases[] = {
        {200, ACK},      {201, ACK},      {202, ACK},      {204, ACK},      {203, COUNTS},
        {206, COUNTS},   {301, COUNTS},   {302, COUNTS},   {400, COUNTS},   {401, COUNTS},
        {403, COUNTS},   {404, COUNTS},   {408, COUNTS},   {413, COUNTS},   {422, COUNTS},
        {429, ENDPOINT}, {500, ENDPOINT}, {502, ENDPOINT}, {503, ENDPOINT}, {0, ENDPOINT},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char message_id[MESSAGE_ID_MAX];

        status_under_test = cases[i].status;
        endpoint_start(answer_status_then_200);
        publisher_start(1, 20); /* whatever counts is a dead letter at once */
        publish(1, message_id);
        if (!wait_for(0, cases[i].meaning == COUNTS))
            fail_msg("status %d: %d dead", cases[i].status, (int)outbox_dead(outbox));
        publisher_end();
        test_server_stop(&endpoint.server);
        assert_int_equal(endpoint.requests >= 2, cases[i].meaning == ENDPOINT);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

TEST_WITH(test_refusals_add_up_to_a_dead_letter, setup, teardown)
{
    char message_id[MESSAGE_ID_MAX];

    endpoint_start(answer_400);
    publisher_start(4, 20);
    publish(1, message_id);
    assert_true(wait_for(0, 1));
    sleep_ms(100);
    assert_int_equal(endpoint.requests, 4);
    test_server_stop(&endpoint.server);
    assert_non_null(strstr(endpoint.last, "\"deliveryAttempt\":4"));
}

TEST_WITH(test_refused_then_accepted, setup, teardown)
{
    char message_id[MESSAGE_ID_MAX];

    status_under_test = 404;
    endpoint_start(answer_status_then_200);
    publisher_start(20, 20);
    publish(1, message_id);
    assert_true(wait_for(0, 0));
    assert_int_equal(endpoint.requests, 2);
    test_server_stop(&endpoint.server);
}

TEST_WITH(test_an_endpoint_that_fails_counts_against_nobody, setup, teardown)
{
    endpoint_start(answer_503);
    publisher_start(2, 30);
    publish_many(20);
    wait_for_requests(60); /* more than 2 attempts of each event */
    assert_int_equal(outbox_pending(outbox), 20);
    assert_int_equal(outbox_dead(outbox), 0);
    endpoint.answer = answer_200;
    assert_true(wait_for(0, 0));
    test_server_stop(&endpoint.server);
}

TEST_WITH(test_backing_off, setup, teardown)
{
    endpoint_start(answer_503);
    clock_set_ahead(1);
    publisher_start(2, 60000);
    publish_many(20);
    wait_for_requests(2);
    for (int ms = 0; ms < 1500; ms += 10) {
        clock_set_ahead(1 + ms);
        sleep_ms(1);
    }
    /* 4 at first, then one at a time after up to 100, 200, 400, … ms: with waits of half that, 4 */
    assert_in_range(endpoint.requests, 2, 16);
    publisher_end();
    test_server_stop(&endpoint.server);
}

TEST_WITH(test_one_probe_at_a_time, setup, teardown)
{
    endpoint_start(answer_503);
    publisher_start(2, 10);
    publish_many(20);
    wait_for_requests(8); /* surely backed off now */
    endpoint.delay_ms = 50;
    wait_for_requests(endpoint.requests + 2);
    endpoint.at_once_max = 0;
    wait_for_requests(endpoint.requests + 6);
    assert_int_equal(endpoint.at_once_max, 1);
    endpoint.answer = answer_200; /* and all together when it is back */
    assert_true(wait_for(0, 0));
    assert_in_range(endpoint.at_once_max, 2, 4);
    test_server_stop(&endpoint.server);
}

TEST_WITH(test_down_then_up, setup, teardown)
{
    endpoint_start(answer_200);
    int port = endpoint.server.port;
    test_server_stop(&endpoint.server);
    publisher_start(1, 50);
    publish_many(50);
    sleep_ms(300);
    assert_int_equal(outbox_pending(outbox), 50);
    test_server_start(&endpoint.server, serve, false, port);
    assert_true(wait_for(0, 0));
    assert_int_equal(endpoint.requests, 50);
    publisher_end();
    test_server_stop(&endpoint.server);
}

TEST_WITH(test_stop_in_time, setup, teardown)
{
    endpoint_start(answer_200);
    endpoint.delay_ms = 20000; /* longer than the stop may take */
    publisher_start(3, 50);
    publish_many(10);
    while (endpoint.at_once < 4)
        sleep_ms(5);
    int64_t start_ms = clock_monotonic_ms();
    publisher->stop(publisher, start_ms + 300);
    assert_in_range(clock_monotonic_ms() - start_ms, 299, 19000);
    publisher->free(publisher);
    publisher = NULL;
    assert_int_equal(outbox_pending(outbox), 10);
    assert_int_equal(endpoint.requests, 4); /* none began after the stop */
    outbox_close(outbox);                   /* those left behind do not use it */
    test_server_stop(&endpoint.server);
    sleep_ms(300);
    struct error err = {0};
    outbox = outbox_open(&(struct outbox_options){.path = path, .max_pending = 1000}, &err);
    assert_non_null(outbox);
    assert_int_equal(outbox_pending(outbox), 10); /* delivered again by the next */
}

TEST_WITH(test_stop_waits_for_deliveries, setup, teardown)
{
    endpoint_start(answer_200);
    endpoint.delay_ms = 50000; /* until all are there */
    publisher_start(3, 50);
    int64_t begun_ms = clock_monotonic_ms();
    publish_many(4);
    while (endpoint.at_once < 4)
        sleep_ms(5);
    int64_t start_ms = clock_monotonic_ms();
    endpoint.delay_ms = (int)(start_ms - begun_ms) + 300; /* some 300 more */
    publisher->stop(publisher, start_ms + 60000);
    assert_in_range(clock_monotonic_ms() - start_ms, 50, 50000); /* when they are done */
    assert_int_equal(outbox_pending(outbox), 0);
    test_server_stop(&endpoint.server);
}

TEST_WITH(test_none, setup, teardown)
{
    struct error err = {0};
    char message_id[MESSAGE_ID_MAX] = "x";
    struct publisher *none = publisher_none_new();

    assert_non_null(none);
    assert_true(
        none->publish(none, &(struct event){"", "", "", "", NULL, NULL}, 0, message_id, &err));
    assert_string_equal(message_id, "");
    none->stop(none, 0);
    none->free(none);
}

TEST_MAIN(NULL, NULL)
