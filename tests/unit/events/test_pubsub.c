/* events/pubsub against a scripted HTTP server: a thread that answers by a function. */
#include "../test_cases.h"
#include "../test_http_server.h"
#include "base/clock.h"
#include "base/xmalloc.h"
#include "client/http_client.h"
#include "events/pubsub/pubsub.h"
#include "events/pubsub/pubsub_call.h"

#include <jansson.h>

enum {
    REQUEST_MAX = 2 * 1024 * 1024,
    CALLS_MAX = 4096,
    LOST = 0,     /* taken, but the connection closes without an answer */
    MANGLED = -1, /* 200 with `server.mangled` as its body */
};

static const char topic[] = "projects/p/topics/img";

/* ---- the server */

/* A status, LOST or MANGLED for the n-th call (from 0), which has this body. */
typedef int (*answer_fn)(int n, const char *body);

static struct {
    struct test_server http;
    answer_fn answer;
    const char *mangled;
    atomic_bool hold; /* answers wait */
    atomic_int held;
    atomic_int calls;
    pthread_mutex_t lock;     /* what follows */
    size_t counts[CALLS_MAX]; /* messages of each call */
    size_t longest;           /* body */
    char *last;               /* request */
    json_t *taken;            /* data -> attributes of every message that was taken */
    int again;                /* messages taken more than once */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* "id-<data>" for each message: so a wrong id is seen. */
static json_t *take_messages(const json_t *body, bool take)
{
    json_t *ids = json_array();
    const json_t *message;
    size_t i;

    json_array_foreach(json_object_get(body, "messages"), i, message)
    {
        CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(REQUEST_MAX);
        struct error err = {0};

        if (!string_base64_decode(json_string_value(json_object_get(message, "data")), &data, &err))
            abort();
        const char *text = buffer_cstr(&data, &err);
        json_array_append_new(ids, json_sprintf("id-%.40s", text));
        if (!take)
            continue;
        json_t *old = json_object_get(server.taken, text);
        json_t *new = json_object_get(message, "attributes");
        if (old != NULL && !json_equal(old, new))
            abort(); /* a message sent again must be the same */
        server.again += old != NULL;
        json_object_set(server.taken, text, new);
    }
    return ids;
}

static int record(int n, const char *request, const char *body, char **reply)
{
    int status = server.answer(n, body);
    bool taken = status == 200 || status == LOST;
    json_t *json = json_loads(body, 0, NULL);

    if (json == NULL)
        abort();
    pthread_mutex_lock(&server.lock);
    free(server.last);
    server.last = strdup(request);
    if (n < CALLS_MAX)
        server.counts[n] = json_array_size(json_object_get(json, "messages"));
    if (strlen(body) > server.longest)
        server.longest = strlen(body);
    json_t *ids = take_messages(json, taken);
    pthread_mutex_unlock(&server.lock);
    json_t *answer =
        status == 200 ? json_pack("{s:O}", "messageIds", ids)
                      : json_pack("{s:{s:i, s:s}}", "error", "code", status, "status", "MADE_UP");
    *reply = status == MANGLED ? strdup(server.mangled) : json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    json_decref(ids);
    json_decref(json);
    return status;
}

static bool answer_request(int fd, const char *request)
{
    CLEANUP_FREE char *body = NULL;
    int status = record(server.calls++, request, strstr(request, "\r\n\r\n") + 4, &body);

    server.held++;
    while (server.hold)
        sleep_ms(1);
    server.held--;
    if (status == LOST)
        return false;
    CLEANUP_FREE char *reply = xasprintf("HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s",
                                         status == MANGLED ? 200 : status, strlen(body), body);
    return send(fd, reply, strlen(reply), MSG_NOSIGNAL) == (ssize_t)strlen(reply);
}

static void serve(struct test_server *s, int fd)
{
    CLEANUP_FREE char *text = xmalloc(REQUEST_MAX);

    while (test_read_request(fd, text, REQUEST_MAX) && answer_request(fd, text))
        ;
}

/* ---- the topic */

static struct http_client *client;
static struct pubsub *pubsub;
static struct clock_cut cut;

static int setup(void **state)
{
    struct error err = {0};

    clock_set_ahead(0);
    clock_cut_set(&cut, 0);
    server.hold = false;
    server.calls = 0;
    server.longest = 0;
    server.again = 0;
    server.taken = json_object();
    test_server_start(&server.http, serve, false, 0);
    client = http_client_new(&(struct http_client_options){.cut = &cut}, &err);
    return client == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    server.hold = false;
    pubsub_free(pubsub);
    pubsub = NULL;
    http_client_free(client);
    test_server_stop(&server.http);
    json_decref(server.taken);
    free(server.last);
    server.last = NULL;
    return 0;
}

static void open_with(answer_fn answer, const struct pubsub_options *more)
{
    char endpoint[64];
    struct pubsub_options options = *more;
    struct error err = {0};

    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d/", server.http.port);
    options.endpoint = endpoint;
    options.topic = topic;
    options.client = client;
    options.cut = &cut;
    server.answer = answer;
    pubsub = pubsub_new(&options, &err);
    assert_non_null(pubsub);
}

static void open_topic(answer_fn answer)
{
    open_with(answer, &(struct pubsub_options){0});
}

static bool publish(const char *data, int64_t timeout_ms, char id[MESSAGE_ID_MAX],
                    struct error *err)
{
    return pubsub_publish(pubsub,
                          &(struct pubsub_message){
                              .data = bytes_from_str(data),
                              .attributes = {{"origin", "test"}, {"about", data}, {"empty", ""}},
                          },
                          clock_monotonic_ms() + timeout_ms, id, err);
}

/* A thread that publishes one message. */
struct sender {
    pthread_t thread;
    char data[64];
    int64_t timeout_ms;
    atomic_int tid; /* 0: it has not begun */
    bool ok;
    char id[MESSAGE_ID_MAX];
    struct error err;
    int64_t took_ms;
};

static void *sender_main(void *arg)
{
    struct sender *s = arg;
    int64_t start_ms = clock_monotonic_ms();

    s->tid = gettid();
    s->ok = publish(s->data, s->timeout_ms, s->id, &s->err);
    s->took_ms = clock_monotonic_ms() - start_ms;
    return NULL;
}

static void sender_start(struct sender *s, int n, int64_t timeout_ms)
{
    *s = (struct sender){.timeout_ms = timeout_ms};
    snprintf(s->data, sizeof(s->data), "message %d", n);
    assert_int_equal(pthread_create(&s->thread, NULL, sender_main, s), 0);
}

static void senders_start(struct sender *senders, int count)
{
    for (int i = 0; i < count; i++)
        sender_start(&senders[i], i, 20000);
}

static void assert_sent(struct sender *s)
{
    char expected[MESSAGE_ID_MAX];

    pthread_join(s->thread, NULL);
    if (!s->ok)
        fail_msg("%s: %s", s->data, s->err.message);
    snprintf(expected, sizeof(expected), "id-%s", s->data);
    assert_string_equal(s->id, expected);
    pthread_mutex_lock(&server.lock);
    bool taken = json_object_get(server.taken, s->data) != NULL;
    pthread_mutex_unlock(&server.lock);
    assert_true(taken);
}

static void wait_until(atomic_int *value, int at_least)
{
    for (int i = 0; *value < at_least; i++) {
        assert_true(i < 10000);
        sleep_ms(1);
    }
}

/* Whether a thread of ours waits for something. */
static bool is_asleep(int tid)
{
    char path[64], text[512] = "", state = 'R';

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    if (fgets(text, sizeof(text), file) != NULL && strrchr(text, ')') != NULL)
        sscanf(strrchr(text, ')'), ") %c", &state);
    fclose(file);
    return state == 'S';
}

/* All of them, whose calls are held, wait for a call. Nothing but their sleep tells. */
static void wait_for_sleep(struct sender *senders, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (int looks = 0; senders[i].tid == 0 || !is_asleep(senders[i].tid); looks++) {
            assert_true(looks < 10000);
            sleep_ms(1);
        }
    sleep_ms(100); /* it may have been the lock that they waited for */
}

/* Start as many senders as calls may be in progress, and hold their calls. */
static void occupy(struct sender *senders, int count)
{
    server.hold = true;
    for (int i = 0; i < count; i++) {
        sender_start(&senders[i], 1000 + i, 20000);
        wait_until(&server.held, i + 1);
    }
}

enum { AT_ONCE = 4 };

/* ---- tests */

static int answer_200(int n, const char *body)
{
    return 200;
}

TEST_WITH(test_request, setup, teardown)
{
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    open_topic(answer_200);
    assert_true(publish("hello", 60000, id, &err));
    assert_string_equal(id, "id-hello");
    assert_int_equal(server.calls, 1);
    assert_true(
        string_starts_with(server.last, "POST /v1/projects/p/topics/img:publish HTTP/1.1\r\n"));
    assert_non_null(strstr(server.last, "\r\nContent-Type: application/json\r\n"));
    assert_null(strcasestr(server.last, "\r\nAuthorization:"));
    assert_string_equal(strstr(server.last, "\r\n\r\n") + 4,
                        "{\"messages\":[{\"data\":\"aGVsbG8=\",\"attributes\":"
                        "{\"origin\":\"test\",\"about\":\"hello\"}}]}");
}

TEST(test_url)
{
    static const struct {
        const char *endpoint, *topic, *url;
    } cases[] = {
        {"", "projects/p/topics/t", "https://pubsub.googleapis.com/v1/projects/p/topics/t:publish"},
        {"http://h:1", "projects/example.com:p/topics/t",
         "http://h:1/v1/projects/example.com:p/topics/t:publish"},
        {"http://h/", "projects/p/topics/a%+~b", "http://h/v1/projects/p/topics/a%25%2B~b:publish"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = {0};
        CLEANUP_FREE char *url = pubsub_url(
            &(struct pubsub_options){.endpoint = cases[i].endpoint, .topic = cases[i].topic}, &err);
        assert_string_equal(url, cases[i].url);
    }
}

TEST_WITH(test_event, setup, teardown)
{
    char endpoint[64], id[MESSAGE_ID_MAX];
    struct error err = {0};
    const struct event event = {"gs://b/x.jpg", "abc", "image/jpeg", "00-1-2-03", NULL, NULL};

    server.answer = answer_200;
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", server.http.port);
    struct publisher *publisher = pubsub_publisher_new(
        &(struct pubsub_options){.endpoint = endpoint, .topic = topic, .client = client}, &err);
    assert_non_null(publisher);
    assert_true(publisher->publish(publisher, &event, clock_monotonic_ms() + 5000, id, &err));
    const char *data = "{\"gcs_path\":\"gs://b/x.jpg\",\"id\":\"abc\"}";
    const json_t *attributes = json_object_get(server.taken, data);
    assert_string_equal(json_string_value(json_object_get(attributes, "origin")),
                        "preprocess-service");
    assert_string_equal(json_string_value(json_object_get(attributes, "content_type")),
                        "image/jpeg");
    assert_string_equal(json_string_value(json_object_get(attributes, "traceparent")), "00-1-2-03");
    assert_int_equal(strlen(json_string_value(json_object_get(attributes, "event_id"))), UUID_LEN);
    assert_int_equal(json_object_size(attributes), 4);
    assert_false(publisher->publish(
        publisher, &(struct event){"gs://b/\xff", "abc", "image/jpeg", "", NULL, NULL},
        clock_monotonic_ms() + 5000, id, &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    publisher->stop(publisher, clock_monotonic_ms() + 1000);
    assert_fails(err, ERROR_SHUTTING_DOWN,
                 publisher->publish(publisher, &event, clock_monotonic_ms() + 5000, id, &err));
    publisher->free(publisher);
    assert_int_equal(server.calls, 1);
}

/* Those who come while calls are in progress go out together; nobody gets another one's id. */
TEST_WITH(test_batches, setup, teardown)
{
    struct sender first[AT_ONCE], rest[150];
    size_t most = 0, total = 0;

    open_topic(answer_200);
    occupy(first, AT_ONCE);
    senders_start(rest, ARRAY_SIZE(rest));
    wait_for_sleep(rest, ARRAY_SIZE(rest));
    assert_int_equal(server.calls, AT_ONCE);
    server.hold = false;
    for (size_t i = 0; i < ARRAY_SIZE(first); i++)
        assert_sent(&first[i]);
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++)
        assert_sent(&rest[i]);
    for (int i = 0; i < server.calls; i++) {
        most = server.counts[i] > most ? server.counts[i] : most;
        total += server.counts[i];
    }
    assert_int_equal(total, ARRAY_SIZE(first) + ARRAY_SIZE(rest));
    assert_int_equal(server.counts[0], 1);
    assert_true(most <= PUBSUB_BATCH_MAX);
    assert_true(server.calls <= AT_ONCE + 10); /* 2 more, unless this machine is very busy */
}

enum { LARGE = 60000, LARGE_COUNT = 40 };

static void *large_main(void *arg)
{
    struct sender *s = arg;
    char *data = malloc(LARGE + 1);

    memset(data, 'x', LARGE);
    memcpy(data, s->data, strlen(s->data));
    data[LARGE] = '\0';
    s->ok = pubsub_publish(pubsub, &(struct pubsub_message){.data = bytes_from_str(data)},
                           clock_monotonic_ms() + 20000, s->id, &s->err);
    free(data);
    return NULL;
}

TEST_WITH(test_batch_bytes, setup, teardown)
{
    struct sender first[AT_ONCE], large[LARGE_COUNT];

    open_topic(answer_200);
    occupy(first, AT_ONCE);
    for (int i = 0; i < LARGE_COUNT; i++) {
        large[i] = (struct sender){0};
        snprintf(large[i].data, sizeof(large[i].data), "large %d ", i);
        assert_int_equal(pthread_create(&large[i].thread, NULL, large_main, &large[i]), 0);
    }
    sleep_ms(300);
    server.hold = false;
    for (size_t i = 0; i < AT_ONCE; i++)
        assert_sent(&first[i]);
    for (size_t i = 0; i < LARGE_COUNT; i++) {
        pthread_join(large[i].thread, NULL);
        assert_true(large[i].ok);
        assert_true(string_starts_with(large[i].id + 3, large[i].data));
    }
    assert_true(server.longest > LARGE * 2); /* some did go together */
    assert_true(server.longest <= 1024 * 1024);
}

/* ---- answers */

static int status_under_test;

static int answer_status_then_200(int n, const char *body)
{
    return n == 0 ? status_under_test : 200;
}

static int answer_status(int n, const char *body)
{
    return status_under_test;
}

TEST_WITH(test_statuses, setup, teardown)
{
    static const struct {
        int status;
        bool again;
        const char *words;
    } cases[] = {
        {LOST, true, NULL},
        {408, true, NULL},
        {409, true, NULL},
        {429, true, NULL},
        {499, true, NULL},
        {500, true, NULL},
        {502, true, NULL},
        {503, true, NULL},
        {504, true, NULL},
        {201, false, "201"},
        {204, false, "204"},
        {301, false, "301"},
        {400, false, "400 MADE_UP"},
        {401, false, "credentials"},
        {403, false, "roles/pubsub.publisher"},
        {404, false, topic},
        {413, false, "413"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char id[MESSAGE_ID_MAX];
        struct error err = {0};

        status_under_test = cases[i].status;
        server.calls = 0;
        open_topic(answer_status_then_200);
        bool ok = publish("hello", 60000, id, &err);
        if (ok != cases[i].again || server.calls != (ok ? 2 : 1))
            fail_msg("status %d: %d after %d calls: %s", cases[i].status, ok, server.calls,
                     err.message);
        if (!ok) {
            assert_int_equal(err.code, ERROR_UNAVAILABLE);
            assert_non_null(strstr(err.message, cases[i].words));
        }
        pubsub_free(pubsub);
        pubsub = NULL;
    }
    assert_int_equal(server.again, 9); /* each the same as the first: or abort() */
}

TEST_WITH(test_attempts_end, setup, teardown)
{
    struct sender sender;

    status_under_test = 503;
    clock_set_ahead(1);
    open_topic(answer_status);
    sender_start(&sender, 1, 60000);
    for (int ahead_ms = 1; pthread_tryjoin_np(sender.thread, NULL) != 0; ahead_ms += 10) {
        clock_set_ahead(ahead_ms);
        sleep_ms(1);
    }
    assert_fails(sender.err, ERROR_UNAVAILABLE, sender.ok);
    assert_non_null(strstr(sender.err.message, "503 MADE_UP"));
    assert_int_equal(server.calls, 6);
}

TEST_WITH(test_nobody_listens, setup, teardown)
{
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    pubsub = pubsub_new(&(struct pubsub_options){.endpoint = "http://127.0.0.1:1",
                                                 .topic = topic,
                                                 .client = client},
                        &err);
    assert_fails(err, ERROR_UNAVAILABLE, publish("hello", 60000, id, &err));
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
}

static int answer_mangled_then_200(int n, const char *body)
{
    return n == 0 ? MANGLED : 200;
}

static int answer_mangled(int n, const char *body)
{
    return MANGLED;
}

/* A 200 without an id for every message confirms nothing. */
TEST_WITH(test_partial_ids, setup, teardown)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "<html>",
        "{\"messageIds\":[]}",
        "{\"messageIds\":\"1\"}",
        "{\"messageIds\":[1]}",
        "{\"messageIds\":[\"\"]}",
        "{\"messageIds\":[\"1\",\"2\"]}",
        "{\"messageIds\":[\"1234567890123456789012345678901234567890123456789012345678901234567890"
        "1234567890123456789012345678901234567890123456789012345678\"]}",
    };
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        server.mangled = bodies[i];
        server.calls = 0;
        open_topic(answer_mangled_then_200);
        assert_true(publish("hello", 60000, id, &err));
        assert_string_equal(id, "id-hello");
        assert_int_equal(server.calls, 2);
        pubsub_free(pubsub);
    }
    open_topic(answer_mangled);
    assert_fails(err, ERROR_UNAVAILABLE, publish("hello", 60000, id, &err));
}

static int answer_400_for_7(int n, const char *body)
{
    return strstr(body, "bWVzc2FnZSA3\"") != NULL ? 400 : 200; /* "message 7" */
}

/* One that Pub/Sub refuses takes nobody with it. */
TEST_WITH(test_refused_in_a_batch, setup, teardown)
{
    struct sender first[AT_ONCE], rest[12];

    open_topic(answer_400_for_7);
    occupy(first, AT_ONCE);
    senders_start(rest, ARRAY_SIZE(rest));
    wait_for_sleep(rest, ARRAY_SIZE(rest));
    server.hold = false;
    for (int i = 0; i < AT_ONCE; i++)
        assert_sent(&first[i]);
    for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
        if (i != 7) {
            assert_sent(&rest[i]);
            continue;
        }
        pthread_join(rest[i].thread, NULL);
        assert_fails(rest[i].err, ERROR_UNAVAILABLE, rest[i].ok);
        assert_null(json_object_get(server.taken, rest[i].data));
    }
}

/* ---- deadlines */

/* Whoever has less time than the others in a batch leaves it in time; they are not disturbed. */
TEST_WITH(test_own_deadlines, setup, teardown)
{
    struct sender first[AT_ONCE], patient[3], hasty[3];

    open_topic(answer_200);
    occupy(first, AT_ONCE);
    for (int i = 0; i < 3; i++) {
        sender_start(&patient[i], i, 20000);
        sender_start(&hasty[i], 100 + i, 600);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(hasty[i].thread, NULL);
        assert_fails(hasty[i].err, ERROR_DEADLINE, hasty[i].ok);
        assert_true(hasty[i].took_ms >= 590 && hasty[i].took_ms < 5000);
    }
    server.hold = false;
    for (int i = 0; i < 3; i++)
        assert_sent(&patient[i]);
    for (int i = 0; i < AT_ONCE; i++)
        assert_sent(&first[i]);
}

static atomic_bool hold_later;

/* Calls after the first ones wait as well: those who waited for them are then in a batch. */
static int answer_hold_later(int n, const char *body)
{
    while (n >= AT_ONCE && hold_later)
        sleep_ms(1);
    return 200;
}

/* The same once they are in a batch, whose caller may be one of the hasty. */
TEST_WITH(test_own_deadlines_in_a_batch, setup, teardown)
{
    struct sender first[AT_ONCE], patient[3], hasty[3];

    hold_later = true;
    clock_set_ahead(1);
    open_topic(answer_hold_later);
    occupy(first, AT_ONCE);
    for (int i = 0; i < 3; i++) {
        sender_start(&hasty[i], 100 + i, 1500);
        sender_start(&patient[i], i, 20000);
    }
    sleep_ms(200);
    server.hold = false;
    for (int i = 0; i < AT_ONCE; i++)
        assert_sent(&first[i]);
    clock_set_ahead(1000);
    for (int i = 0; i < 3; i++) {
        pthread_join(hasty[i].thread, NULL);
        assert_fails(hasty[i].err, ERROR_DEADLINE, hasty[i].ok);
        assert_true(hasty[i].took_ms >= 1400 && hasty[i].took_ms < 6000);
    }
    hold_later = false;
    for (int i = 0; i < 3; i++)
        assert_sent(&patient[i]);
}

/* The first one not before there is another. */
static int answer_late_first(int n, const char *body)
{
    while (n == 0 && server.calls < 2 && !server.http.stop)
        sleep_ms(1);
    return 200;
}

/* A call that hangs is given up for another one. */
TEST_WITH(test_attempt_time, setup, teardown)
{
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    open_with(answer_late_first, &(struct pubsub_options){.attempt_ms = 1000});
    assert_true(publish("hello", 60000, id, &err));
    assert_int_equal(server.calls, 2);
}

static void *stop_main(void *arg)
{
    pubsub_stop(pubsub, *(int64_t *)arg);
    return NULL;
}

/* Shutdown: what waits or hangs fails at the deadline at the latest; nothing new is begun. */
TEST_WITH(test_stop, setup, teardown)
{
    struct sender senders[12];
    pthread_t thread;
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    open_topic(answer_200);
    server.hold = true;
    senders_start(senders, ARRAY_SIZE(senders));
    wait_until(&server.held, AT_ONCE);
    int64_t deadline_ms = clock_monotonic_ms() + 500;
    clock_cut_set(&cut, deadline_ms);
    assert_int_equal(pthread_create(&thread, NULL, stop_main, &deadline_ms), 0);
    for (size_t i = 0; i < ARRAY_SIZE(senders); i++) {
        pthread_join(senders[i].thread, NULL);
        assert_false(senders[i].ok);
        assert_true(error_is_passing(senders[i].err.code));
        assert_true(senders[i].took_ms < 5000);
    }
    pthread_join(thread, NULL);
    assert_fails(err, ERROR_SHUTTING_DOWN, publish("late", 5000, id, &err));
    server.hold = false;
}

TEST_WITH(test_stop_waits, setup, teardown)
{
    struct sender senders[12];
    pthread_t thread;
    int64_t deadline_ms = clock_monotonic_ms() + 20000;

    open_topic(answer_200);
    server.hold = true;
    senders_start(senders, ARRAY_SIZE(senders));
    wait_until(&server.held, AT_ONCE);
    wait_for_sleep(senders, ARRAY_SIZE(senders));
    assert_int_equal(pthread_create(&thread, NULL, stop_main, &deadline_ms), 0);
    sleep_ms(50);
    server.hold = false;
    for (size_t i = 0; i < ARRAY_SIZE(senders); i++)
        assert_sent(&senders[i]);
    pthread_join(thread, NULL);
    assert_true(clock_left_ms(deadline_ms) > 5000);
}

/* ---- tokens */

static struct {
    struct bearer bearer;
    atomic_int asked;
    int fail; /* so many times */
    enum error_code code;
    char expired[64];
} tokens;

static bool get_token(struct bearer *bearer, int64_t deadline_ms, char out[BEARER_MAX],
                      struct error *err)
{
    int n = tokens.asked++;

    assert_ptr_equal(bearer, &tokens.bearer);
    assert_true(clock_left_ms(deadline_ms) > 0);
    if (n < tokens.fail)
        return error_set(err, tokens.code, "no token today");
    snprintf(out, BEARER_MAX, "token-%d", n);
    return true;
}

static void token_expired(struct bearer *bearer, const char *token)
{
    assert_ptr_equal(bearer, &tokens.bearer);
    snprintf(tokens.expired, sizeof(tokens.expired), "%s", token);
}

static void open_with_tokens(answer_fn answer, int fail, enum error_code code)
{
    tokens.asked = 0;
    tokens.fail = fail;
    tokens.code = code;
    *tokens.expired = '\0';
    tokens.bearer = (struct bearer){get_token, token_expired};
    open_with(answer, &(struct pubsub_options){.bearer = &tokens.bearer});
}

TEST_WITH(test_token, setup, teardown)
{
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    open_with_tokens(answer_200, 0, ERROR_NONE);
    assert_true(publish("hello", 60000, id, &err));
    assert_non_null(strstr(server.last, "\r\nAuthorization: Bearer token-0\r\n"));
    assert_string_equal(tokens.expired, "");
}

TEST_WITH(test_refused_token, setup, teardown)
{
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    status_under_test = 401;
    open_with_tokens(answer_status_then_200, 0, ERROR_NONE);
    assert_true(publish("hello", 60000, id, &err));
    assert_string_equal(tokens.expired, "token-0");
    assert_non_null(strstr(server.last, "\r\nAuthorization: Bearer token-1\r\n"));
    pubsub_free(pubsub);
    server.calls = 0;
    open_with_tokens(answer_status, 0, ERROR_NONE);
    assert_fails(err, ERROR_UNAVAILABLE, publish("hello", 60000, id, &err));
    assert_null(strstr(err.message, "token-"));
    assert_int_equal(server.calls, 2);
}

TEST_WITH(test_no_token, setup, teardown)
{
    char id[MESSAGE_ID_MAX];
    struct error err = {0};

    open_with_tokens(answer_200, 2, ERROR_UNAVAILABLE);
    assert_true(publish("hello", 60000, id, &err));
    assert_int_equal(server.calls, 1);
    pubsub_free(pubsub);
    open_with_tokens(answer_200, 99,
                     ERROR_FORBIDDEN); /* whatever it is, a client is not to blame */
    assert_fails(err, ERROR_UNAVAILABLE, publish("hello", 60000, id, &err));
    assert_non_null(strstr(err.message, "no token today"));
    assert_int_equal(tokens.asked, 1);
}

/* ---- many at once */

enum { THREADS = 16, EACH = 40 };

static json_t *badly; /* data -> how often it was answered badly: attempts end after six */

static int answer_badly(int n, const char *body)
{
    int status = n % 5 == 1 ? 503 : n % 7 == 2 ? LOST : 200;
    json_t *json = json_loads(body, 0, NULL);
    const json_t *message;
    size_t i;

    pthread_mutex_lock(&server.lock);
    for (int look = 0; look < 2 && status != 200; look++)
        json_array_foreach(json_object_get(json, "messages"), i, message)
        {
            const char *data = json_string_value(json_object_get(message, "data"));
            json_int_t times = json_integer_value(json_object_get(badly, data));
            if (look == 0 && times == 3)
                status = 200;
            else if (look == 1)
                json_object_set_new(badly, data, json_integer(times + 1));
        }
    pthread_mutex_unlock(&server.lock);
    json_decref(json);
    return status;
}

static void *many_main(void *arg)
{
    intptr_t thread = (intptr_t)arg;

    for (int i = 0; i < EACH; i++) {
        char data[64], id[MESSAGE_ID_MAX], expected[MESSAGE_ID_MAX];
        struct error err = {0};

        snprintf(data, sizeof(data), "of %d, %d", (int)thread, i);
        snprintf(expected, sizeof(expected), "id-%s", data);
        if (!publish(data, 30000, id, &err) || strcmp(id, expected) != 0)
            return strdup(err.message);
    }
    return NULL;
}

/* A fifth of the calls fail and a seventh of the answers are lost: every message arrives, each
 * caller gets its own id. */
TEST_WITH(test_many, setup, teardown)
{
    pthread_t threads[THREADS];

    badly = json_object();
    open_topic(answer_badly);
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many_main, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *failure = NULL;
        pthread_join(threads[i], &failure);
        if (failure != NULL)
            fail_msg("%s", (char *)failure);
    }
    assert_int_equal(json_object_size(server.taken), THREADS * EACH);
    assert_true(server.again > 0);
    json_decref(badly);
}

TEST_MAIN(NULL, NULL)
