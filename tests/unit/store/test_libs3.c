/* store/libs3 against a scripted server, which checks every signature by itself. */
#include "../test_cases.h"
#include "../test_http_server.h"
#include "base/strings.h"
#include "store/store.h"

#include <fcntl.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <sys/resource.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nLast-Modified: Tue, 03 Mar 2026 10:00:00 GMT\r\n"
#define OK_HELLO OK_HEAD "Content-Type: image/png\r\nContent-Length: 5\r\n\r\nhello"
#define STATUS(line, body) "HTTP/1.1 " line "\r\nConnection: close\r\n\r\n" body
#define CODE(line, code) STATUS(line, "<Error><Code>" code "</Code></Error>")

enum { HEAD_MAX = 16384, SECOND_MS = 1000 };

static const char access_key[] = "the-key", secret_key[] = "the-secret";

struct server {
    const char *answer; /* to everything; NULL: silence */
    const char *absent; /* to HEAD, if set */
    bool reset;         /* instead of an orderly end after the answer */
    bool close;         /* after the answer */
    const char *bucket; /* in the host; NULL: in the path */
    struct test_server http;
    atomic_int connections, requests, forged;
    pthread_mutex_t lock;
    char head[HEAD_MAX], body[64]; /* of the last request */
    size_t body_len;
};

static void header(const char *head, const char *name, char *out, size_t size)
{
    char start[96];

    snprintf(start, sizeof(start), "\r\n%s: ", name);
    const char *found = strcasestr(head, start);
    snprintf(out, size, "%.*s", found != NULL ? (int)strcspn(found + strlen(start), "\r") : 0,
             found != NULL ? found + strlen(start) : "");
}

/* By name, which ends before its colon. */
static bool sorts_before(const char *a, const char *b)
{
    size_t a_len = strcspn(a, ":"), b_len = strcspn(b, ":");
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return order != 0 ? order < 0 : a_len < b_len;
}

static void append_amz_headers(const char *head, char *out, size_t size)
{
    const char *lines[32];
    size_t n = 0, len = strlen(out);

    for (const char *p = head; (p = strstr(p, "\r\nx-amz-")) != NULL && n < 32; p++)
        lines[n++] = p + 2;
    for (size_t done = 0; done < n; done++) {
        size_t least = 0;
        for (size_t i = 1; i < n; i++)
            if (lines[least] == NULL || (lines[i] != NULL && sorts_before(lines[i], lines[least])))
                least = i;
        const char *colon = strchr(lines[least], ':');
        len += (size_t)snprintf(out + len, size - len, "%.*s:%.*s\n", (int)(colon - lines[least]),
                                lines[least], (int)strcspn(colon + 2, "\r"), colon + 2);
        lines[least] = NULL;
    }
}

/* https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html */
static bool is_signed(const struct server *s, const char *head)
{
    char method[16], target[8192], text[HEAD_MAX], type[256], given[256], expected[256];
    CLEANUP(buffer_done) struct buffer encoded = BUFFER_MAX(64);
    struct error err = {0};
    unsigned char hmac[20];
    unsigned len = sizeof(hmac);

    if (sscanf(head, "%15s %8191s", method, target) != 2)
        return false;
    header(head, "Content-Type", type, sizeof(type));
    header(head, "Authorization", given, sizeof(given));
    snprintf(text, sizeof(text), "%s\n\n%s\n\n", method, type);
    append_amz_headers(head, text, sizeof(text));
    snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s%.*s",
             s->bucket != NULL ? "/" : "", s->bucket != NULL ? s->bucket : "",
             (int)strcspn(target, "?"), target);
    if (HMAC(EVP_sha1(), secret_key, (int)strlen(secret_key), (const unsigned char *)text,
             strlen(text), hmac, &len) == NULL ||
        !string_base64_encode(bytes_of(hmac, len), &encoded, &err))
        return false;
    snprintf(expected, sizeof(expected), "AWS %s:%.*s", access_key, (int)encoded.len,
             (const char *)encoded.data);
    return strcmp(given, expected) == 0;
}

static bool read_exactly(int fd, char *out, size_t max, size_t len)
{
    char sink[4096];

    for (size_t done = 0; done < len;) {
        size_t want = len - done < sizeof(sink) ? len - done : sizeof(sink);
        ssize_t n = recv(fd, sink, want, 0);
        if (n <= 0)
            return false;
        if (done < max)
            memcpy(out + done, sink, (size_t)n < max - done ? (size_t)n : max - done);
        done += (size_t)n;
    }
    return true;
}

static bool read_request(struct server *s, int fd, char method[16])
{
    char head[HEAD_MAX] = "", length[32], body[sizeof(s->body)];
    size_t len = 0;

    while (strstr(head, "\r\n\r\n") == NULL) {
        if (len == sizeof(head) - 1 || recv(fd, head + len, 1, 0) != 1)
            return false;
        head[++len] = '\0';
    }
    header(head, "Expect", length, sizeof(length));
    if (*length != '\0')
        send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
    header(head, "Content-Length", length, sizeof(length));
    size_t body_len = (size_t)atol(length);
    if (!read_exactly(fd, body, sizeof(body), body_len))
        return false;
    s->requests++;
    s->forged += !is_signed(s, head);
    sscanf(head, "%15s", method);
    pthread_mutex_lock(&s->lock);
    memcpy(s->head, head, sizeof(s->head));
    memcpy(s->body, body, sizeof(s->body));
    s->body_len = body_len;
    pthread_mutex_unlock(&s->lock);
    return true;
}

static void serve(struct test_server *http, int fd)
{
    struct server *s = http->ctx;
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    char method[16], sink;

    s->connections++;
    while (read_request(s, fd, method)) {
        bool head = strcmp(method, "HEAD") == 0;
        const char *answer = head && s->absent != NULL ? s->absent : s->answer;
        if (answer == NULL) {
            (void)!recv(fd, &sink, 1, 0); /* until the client or the test gives up */
            break;
        }
        const char *end = head ? strstr(answer, "\r\n\r\n") + 4 : answer + strlen(answer);
        send(fd, answer, (size_t)(end - answer), MSG_NOSIGNAL);
        if (s->reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        if (s->close || s->reset || strstr(answer, "Connection: close") != NULL)
            break;
    }
    if (s->reset)
        poll(NULL, 0, 20); /* what was sent arrives */
}

struct fixture {
    struct server server;
    struct store *store;
    struct clock_cut cut;
    struct error err;
    char endpoint[64];
};

static struct store *open_store(struct fixture *f, struct store_options o)
{
    o.url = o.url != NULL ? o.url : "s3://bucket";
    o.cut = &f->cut;
    o.s3.endpoint = o.s3.endpoint != NULL ? o.s3.endpoint : f->endpoint;
    o.s3.access_key = o.s3.access_key != NULL ? o.s3.access_key : access_key;
    o.s3.secret_key = o.s3.secret_key != NULL ? o.s3.secret_key : secret_key;
    o.s3.session_token = o.s3.session_token != NULL ? o.s3.session_token : "";
    o.s3.region = "us-east-1";
    o.s3.signature = STORE_S3_V2;
    return store_open(&o, &f->err);
}

static struct fixture *begin(const char *answer)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->server.answer = answer;
    f->server.http.ctx = &f->server;
    pthread_mutex_init(&f->server.lock, NULL);
    test_server_start(&f->server.http, serve, false, 0);
    snprintf(f->endpoint, sizeof(f->endpoint), "http://127.0.0.1:%d", f->server.http.port);
    f->store = open_store(f, (struct store_options){0});
    assert_non_null(f->store);
    return f;
}

static void end(struct fixture *f)
{
    store_free(f->store);
    test_server_stop(&f->server.http);
    assert_int_equal(f->server.forged, 0);
    free(f);
}

static int64_t in_ms(int64_t ms)
{
    return clock_monotonic_ms() + ms;
}

static bool put(struct store *store, const char *key, bool *existed, struct error *err)
{
    return store_put(store,
                     &(struct store_put){
                         .key = key,
                         .data = bytes_from_str("hello"),
                         .content_type = "image/png",
                         .if_absent = existed != NULL,
                         .deadline_ms = in_ms(10 * SECOND_MS),
                     },
                     existed, err);
}

/* true if "hello" came; in any other case nothing may have come */
static bool get(struct store *store, const char *key, int64_t deadline_ms, struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = {0};

    bool ok = store_get(
        store, &(struct store_get){.key = key, .max_bytes = 100, .deadline_ms = deadline_ms}, &data,
        NULL, err);
    assert_true(ok ? bytes_equal(buffer_view(&data), bytes_from_str("hello")) : data.len == 0);
    return ok;
}

TEST(puts_are_signed)
{
    struct fixture *f = begin(OK_HEAD "Content-Length: 0\r\n\r\n");
    char text[256];

    assert_true(put(f->store, "some/key.png", NULL, &f->err));
    assert_memory_equal(f->server.head, "PUT /bucket/some/key.png HTTP/1.1\r\n", 35);
    header(f->server.head, "content-type", text, sizeof(text));
    assert_string_equal(text, "image/png");
    header(f->server.head, "transfer-encoding", text, sizeof(text));
    assert_string_equal(text, "");
    assert_int_equal(f->server.body_len, 5);
    assert_memory_equal(f->server.body, "hello", 5);
    assert_int_equal(f->server.requests, 1);
    end(f);
}

TEST(keys_are_encoded_as_rfc_3986_has_it)
{
    static const char *const keys[][2] = {
        {"a b", "a%20b"},
        {"a+b", "a%2Bb"},
        {"100%", "100%25"},
        {"%41", "%2541"},
        {"\xc3\xbc/x", "%C3%BC/x"},
        {"x//y/", "x//y/"},
        {"s;c=1&b?c#d", "s%3Bc%3D1%26b%3Fc%23d"},
        {"-._~!*'()", "-._~%21%2A%27%28%29"},
    };
    struct fixture *f = begin(OK_HELLO);

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        char line[128];
        assert_true(get(f->store, keys[i][0], in_ms(5 * SECOND_MS), &f->err));
        snprintf(line, sizeof(line), "GET /bucket/%s HTTP/1.1\r\n", keys[i][1]);
        assert_memory_equal(f->server.head, line, strlen(line));
    }
    end(f);
}

TEST(longest_keys_fit)
{
    struct fixture *f = begin(OK_HELLO);
    char key[STORE_KEY_MAX + 1];

    for (size_t i = 0; i < STORE_KEY_MAX; i += 2)
        memcpy(key + i, "\xc3\xbc", 3);
    assert_true(get(f->store, key, in_ms(5 * SECOND_MS), &f->err));
    end(f);
}

TEST(virtual_addressing)
{
    struct fixture *f = begin(OK_HELLO);
    char text[128], expected[64];

    store_free(f->store);
    f->server.bucket = "bucket";
    snprintf(f->endpoint, sizeof(f->endpoint), "http://localhost:%d", f->server.http.port);
    f->store = open_store(f, (struct store_options){.s3.virtual_addressing = true});
    assert_non_null(f->store);
    assert_true(get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
    assert_memory_equal(f->server.head, "GET /key HTTP/1.1\r\n", 19);
    header(f->server.head, "host", text, sizeof(text));
    snprintf(expected, sizeof(expected), "bucket.localhost:%d", f->server.http.port);
    assert_string_equal(text, expected);
    end(f);
}

TEST(if_absent_asks_first)
{
    struct fixture *f = begin(OK_HELLO);
    bool existed = false;

    assert_true(put(f->store, "key", &existed, &f->err));
    assert_true(existed);
    assert_int_equal(f->server.requests, 1);
    assert_memory_equal(f->server.head, "HEAD ", 5);
    f->server.absent = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_true(put(f->store, "key", &existed, &f->err));
    assert_false(existed);
    assert_int_equal(f->server.requests, 3);
    assert_memory_equal(f->server.head, "PUT ", 4);
    end(f);
}

TEST(ranges_are_asked_for)
{
    struct fixture *f = begin("HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Length: 3\r\n"
                              "Content-Range: bytes 2-4/9\r\n\r\nllo");
    CLEANUP(buffer_done) struct buffer data = {0};
    struct store_info info = {0};
    struct store_get range = {.key = "key", .offset = 2, .length = 3, .max_bytes = 3};
    char text[64];

    range.deadline_ms = in_ms(5 * SECOND_MS);
    assert_true(store_get(f->store, &range, &data, &info, &f->err));
    assert_true(bytes_equal(buffer_view(&data), bytes_from_str("llo")));
    assert_int_equal(info.size, 9);
    header(f->server.head, "range", text, sizeof(text));
    assert_string_equal(text, "bytes=2-4");
    end(f);
}

static bool count(void *ctx, const char *key, uint64_t size)
{
    int *n = ctx;

    assert_string_equal(key, "p/a b+c");
    assert_int_equal(size, 7);
    ++*n;
    return true;
}

TEST(listing)
{
    struct fixture *f =
        begin("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9C\r\n"
              "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
              "<Contents><Key>p/a+b%2Bc</Key><Size>7</Size></Contents></ListBucketResult>"
              "\r\n0\r\n\r\n");
    int n = 0;

    assert_true(store_list(f->store, "p/a b", in_ms(5 * SECOND_MS), count, &n, &f->err));
    assert_int_equal(n, 1);
    assert_memory_equal(f->server.head, "GET /bucket/?", 13);
    assert_non_null(strstr(f->server.head, "prefix=p%2Fa%20b HTTP/1.1\r\n"));
    end(f);
}

/* What is not wholly there is not there at all. */
TEST(faults_end_in_the_right_error)
{
    static const struct {
        const char *answer;
        enum error_code code;
        int attempts;
        bool reset;
    } cases[] = {
        {CODE("404 Not Found", "NoSuchKey"), ERROR_NOT_FOUND, 1, false},
        {CODE("404 Not Found", "NoSuchBucket"), ERROR_UNAVAILABLE, 1, false},
        {CODE("403 Forbidden", "AccessDenied"), ERROR_UNAVAILABLE, 1, false},
        {CODE("403 Forbidden", "SignatureDoesNotMatch"), ERROR_UNAVAILABLE, 1, false},
        {STATUS("401 Unauthorized", ""), ERROR_UNAVAILABLE, 1, false},
        {CODE("500 Oops", "InternalError"), ERROR_UNAVAILABLE, 4, false},
        {STATUS("502 Bad Gateway", "<html>"), ERROR_UNAVAILABLE, 4, false},
        {CODE("503 Busy", "SlowDown"), ERROR_UNAVAILABLE, 4, false},
        {CODE("200 OK", "InternalError"), ERROR_UNAVAILABLE, 4, false},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", ERROR_UNAVAILABLE, 4, false},
        {OK_HEAD "Connection: close\r\nContent-Length: 9\r\n\r\nhello", ERROR_UNAVAILABLE, 4,
         false},
        {OK_HEAD "Content-Length: 9\r\n\r\nhello", ERROR_UNAVAILABLE, 4, true},
        {OK_HEAD "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
         ERROR_UNAVAILABLE, 4, false},
        {OK_HEAD "Connection: close\r\n\r\nhello", ERROR_UNAVAILABLE, 4, false},
        {OK_HEAD "Connection: close\r\n\r\n", ERROR_UNAVAILABLE, 4, false},
        {"not HTTP\r\nConnection: close\r\n\r\n", ERROR_UNAVAILABLE, 4, false},
        {OK_HEAD "Content-Length: 0\r\nConnection: close\r\n", ERROR_UNAVAILABLE, 4, false},
        {"HTTP/1.1 199 Soon\r\nETag: \"e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
         ERROR_UNAVAILABLE, 4, false},
        {OK_HEAD "Content-Length: 101\r\nConnection: close\r\n\r\n"
                 "0123456789012345678901234567890123456789012345678901234567890123456789"
                 "0123456789012345678901234567890",
         ERROR_TOO_LARGE, 1, false},
    };

    clock_set_ahead(1); /* pauses before other attempts take no time */
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fixture *f = begin(cases[i].answer);
        f->server.reset = cases[i].reset;
        assert_false(get(f->store, "key", in_ms(20 * SECOND_MS), &f->err));
        if (f->err.code != cases[i].code || f->server.requests != cases[i].attempts)
            print_message("case %zu: %s, %d requests\n", i, f->err.message, f->server.requests);
        assert_int_equal(f->err.code, cases[i].code);
        assert_int_equal(f->server.requests, cases[i].attempts);
        assert_null(strstr(f->err.message, secret_key));
        end(f);
    }
    clock_set_ahead(0);
}

TEST(redirects_are_not_followed)
{
    struct fixture *other = begin(OK_HELLO);
    char answer[256];

    snprintf(answer, sizeof(answer),
             "HTTP/1.1 307 Elsewhere\r\nLocation: %s/bucket/key\r\nContent-Length: 0\r\n\r\n",
             other->endpoint);
    struct fixture *f = begin(answer);
    assert_fails(f->err, ERROR_UNAVAILABLE, get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
    assert_int_equal(f->server.requests, 1);
    assert_int_equal(other->server.requests, 0);
    end(f);
    end(other);
}

TEST(no_proxy_from_the_environment)
{
    struct fixture *f = begin(OK_HELLO);

    setenv("http_proxy", "http://127.0.0.1:9", 1);
    assert_true(get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
    unsetenv("http_proxy");
    end(f);
}

/* More than libs3 has room for. */
TEST(replies_with_many_parts)
{
    CLEANUP(buffer_done) struct buffer headers = BUFFER_MAX(65536);
    CLEANUP(buffer_done) struct buffer elements = BUFFER_MAX(65536);
    struct error err = {0};
    const char *texts[2];

    assert_true(
        buffer_append_str(&headers, OK_HEAD, &err) &&
        buffer_append_str(&elements, "HTTP/1.1 403 No\r\nConnection: close\r\n\r\n<Error>", &err));
    for (int i = 0; i < 400; i++)
        assert_true(buffer_printf(&headers, &err, "x-amz-meta-%d: \r\n", i) &&
                    buffer_printf(&elements, &err, "<E%d>v</E%d>", i, i));
    assert_true(buffer_append_str(&headers, "Content-Length: 5\r\n\r\nhello", &err) &&
                buffer_append_str(&elements, "<Code>AccessDenied</Code></Error>", &err));
    texts[0] = buffer_cstr(&headers, &err);
    texts[1] = buffer_cstr(&elements, &err);
    for (size_t i = 0; i < 2; i++) {
        struct fixture *f = begin(texts[i]);
        assert_fails(f->err, ERROR_UNAVAILABLE,
                     get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
        end(f);
    }
}

TEST(what_libs3_cannot_hold_is_refused)
{
    struct fixture *f = begin(OK_HELLO);
    char type[121];

    memset(type, 't', sizeof(type));
    type[120] = '\0';
    struct store_put puts[] = {
        {.content_type = type},
        {.content_type = "a/b "},
    };
    for (size_t i = 0; i < ARRAY_SIZE(puts); i++) {
        puts[i].key = "key";
        puts[i].deadline_ms = in_ms(5 * SECOND_MS);
        assert_fails(f->err, ERROR_BAD_REQUEST, store_put(f->store, &puts[i], NULL, &f->err));
    }
    assert_int_equal(f->server.requests, 0);
    end(f);
}

enum { HELD_UP_MAX = 20 };

static void *cut_soon(void *ctx)
{
    poll(NULL, 0, 200);
    clock_cut_set(ctx, clock_monotonic_ms());
    return NULL;
}

TEST(silence_ends_at_the_deadline_or_the_cut)
{
    struct fixture *f = begin(NULL);
    pthread_t thread;
    int64_t began_ms, took_ms;
    int rounds = 0;

    do { /* once more when this process was held up */
        began_ms = clock_monotonic_ms();
        assert_fails(f->err, ERROR_DEADLINE, get(f->store, "key", in_ms(300), &f->err));
        took_ms = clock_monotonic_ms() - began_ms;
        assert_true(took_ms >= 300);
    } while (took_ms > 800 && ++rounds < HELD_UP_MAX);
    assert_true(took_ms <= 800);
    do {
        clock_cut_set(&f->cut, 0);
        began_ms = clock_monotonic_ms();
        assert_int_equal(pthread_create(&thread, NULL, cut_soon, &f->cut), 0);
        assert_fails(f->err, ERROR_DEADLINE, put(f->store, "key", NULL, &f->err));
        took_ms = clock_monotonic_ms() - began_ms;
        assert_true(took_ms >= 150);
        pthread_join(thread, NULL);
    } while (took_ms > 1500 && ++rounds < HELD_UP_MAX);
    assert_true(took_ms <= 1500);
    end(f);
}

TEST(a_kept_connection_that_was_closed_is_replaced)
{
    struct fixture *f = begin(OK_HELLO);

    f->server.close = true;
    for (int i = 0; i < 5; i++) {
        assert_true(get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
        assert_true(put(f->store, "key", NULL, &f->err));
    }
    assert_int_equal(f->server.requests, 10);
    end(f);
}

TEST(connections_are_kept)
{
    struct fixture *f = begin(OK_HELLO);

    for (int i = 0; i < 5; i++)
        assert_true(get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
    assert_int_equal(f->server.connections, 1);
    end(f);
}

/* select() and its sets end at 1,024. */
TEST(descriptors_of_any_number)
{
    struct rlimit limit;
    int fds[1100];

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit more = limit;
    more.rlim_cur = 2048 < limit.rlim_max ? 2048 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fds[ARRAY_SIZE(fds) - 1] < FD_SETSIZE)
        SKIP("too few descriptors are allowed");
    struct fixture *f = begin(OK_HELLO);
    assert_true(get(f->store, "key", in_ms(5 * SECOND_MS), &f->err));
    assert_true(put(f->store, "key", NULL, &f->err));
    end(f);
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void *work(void *ctx)
{
    struct fixture *f = ctx;
    struct error err = {0};
    uintptr_t failures = 0;

    for (int i = 0; i < 20; i++) {
        failures += !put(f->store, "a key", NULL, &err);
        failures += !get(f->store, "b+key", in_ms(10 * SECOND_MS), &err);
        (void)get(f->store, "c", in_ms(1), &err); /* some of these are torn down midway */
    }
    return (void *)failures;
}

TEST(many_threads_at_once)
{
    struct fixture *f = begin(OK_HELLO);
    pthread_t threads[16];
    void *failures;

    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, f), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], &failures);
        assert_null(failures);
    }
    assert_true(f->server.requests >= 16 * 40);
    end(f); /* which checks all signatures */
}

TEST(what_libs3_cannot_do_is_refused_at_start)
{
    static const char long_text[] =
        "0123456789012345678901234567890123456789012345678901234567890123456789012345";
    static const struct {
        struct store_options options;
        const char *text;
    } cases[] = {
        {{.s3.endpoint = "https://127.0.0.1"}, "needs an http:// S3_ENDPOINT"},
        {{.s3.endpoint = ""}, "needs an http:// S3_ENDPOINT"},
        {{.s3.endpoint = "http://127.0.0.1/x"}, "S3_ENDPOINT"},
        {{.s3.session_token = "t"}, "session tokens"},
        {{.s3.access_key = ""}, "AWS_ACCESS_KEY_ID"},
        {{.s3.secret_key = ""}, "AWS_SECRET_ACCESS_KEY"},
        {{.s3.access_key = long_text}, "access key"},
        {{.s3.secret_key = long_text}, "secret key"},
        {{.url = "s3://a_b", .s3.virtual_addressing = true}, "bucket"},
    };
    struct fixture *f = begin(OK_HELLO);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        f->err = (struct error){0};
        assert_null(open_store(f, cases[i].options));
        assert_int_equal(f->err.code, ERROR_CONFIG);
        assert_non_null(strstr(f->err.message, cases[i].text));
        assert_null(strstr(f->err.message, long_text));
    }
    end(f);
}

TEST_MAIN(NULL, NULL)
