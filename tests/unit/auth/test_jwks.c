/* The issuer's keys: when they are fetched, how long they are good, and who waits. Against a
 * scripted server thread, on a clock of our own. */
#include "../test_cases.h"
#include "../test_http_server.h"
#include "auth/jwks_cache.h"
#include "base/clock.h"
#include "base/xmalloc.h"
#include "client/http_client.h"
#include "test_jwt_builders.h"

#include <poll.h>

enum { KEYS = 4, THREADS = 16, MINUTE_MS = 60 * 1000, HOUR_MS = 60 * MINUTE_MS };

static EVP_PKEY *keys[KEYS];
static char *jwks[KEYS]; /* of key n, its id "kN" */
static _Atomic int64_t now_ms;

static int64_t test_clock(void)
{
    return atomic_load(&now_ms);
}

/* ---- the server ---- */

struct server {
    struct test_server http;
    atomic_int fetches;
    atomic_int first, count; /* of the keys told */
    atomic_int status;
    atomic_bool hold; /* answers wait */
    const char *_Atomic headers;
};

static void serve(struct test_server *http, int fd)
{
    struct server *s = http->ctx;
    char head[4096];

    if (!test_read_request(fd, head, sizeof(head)))
        return;
    s->fetches++;
    while (s->hold)
        poll(NULL, 0, 1);
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(65536);
    struct error err = {0};
    bool ok = buffer_append_str(&body, "{\"keys\":[", &err);
    for (int i = s->first; i < s->first + s->count; i++)
        ok = ok && buffer_printf(&body, &err, "%s%s", i > s->first ? "," : "", jwks[i % KEYS]);
    ok = ok && buffer_append_str(&body, "]}", &err);
    CLEANUP_FREE char *reply =
        xasprintf("HTTP/1.1 %d X\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%.*s",
                  s->status, s->headers, body.len, (int)body.len, (const char *)body.data);
    if (!ok || send(fd, reply, strlen(reply), MSG_NOSIGNAL) < 0)
        fprintf(stderr, "scripted server: cannot answer\n");
}

struct fixture {
    struct server server;
    struct http_client *client;
    struct jwks *jwks;
};

static int begin(void **state)
{
    static struct fixture f;
    struct error err = {0};
    char url[64];

    f = (struct fixture){.server = {.count = 1, .status = 200}};
    f.server.headers = "Cache-Control: public, max-age=3600\r\n";
    f.server.http.ctx = &f.server;
    test_server_start(&f.server.http, serve, true, 0);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/certs", f.server.http.port);
    f.client = http_client_new(&(struct http_client_options){0}, &err);
    assert_non_null(f.client);
    now_ms = 1000;
    f.jwks = jwks_new(&(struct jwks_options){.client = f.client, .url = url, .now_ms = test_clock});
    *state = &f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;

    jwks_free(f->jwks);
    http_client_free(f->client);
    test_server_stop(&f->server.http);
    return 0;
}

static int make_keys(void **state)
{
    char kid[16];

    for (int i = 0; i < KEYS; i++) {
        keys[i] = EVP_RSA_gen(2048);
        snprintf(kid, sizeof(kid), "k%d", i);
        jwks[i] = make_jwk(kid, keys[i], "");
        if (jwks[i] == NULL)
            return 1;
    }
    return 0;
}

static int free_keys(void **state)
{
    for (int i = 0; i < KEYS; i++) {
        EVP_PKEY_free(keys[i]);
        free(jwks[i]);
    }
    return 0;
}

static enum error_code find_within(struct fixture *f, const char *kid, int64_t ms)
{
    struct error err = {0};
    EVP_PKEY *key = jwks_find(f->jwks, kid, clock_monotonic_ms() + ms, &err);

    if (key != NULL && EVP_PKEY_eq(key, keys[kid[1] - '0']) != 1)
        fail_msg("another key for %s", kid);
    assert_int_equal(key == NULL, err.code != ERROR_NONE);
    EVP_PKEY_free(key);
    return err.code;
}

static enum error_code find(struct fixture *f, const char *kid)
{
    return find_within(f, kid, 60000);
}

/* ---- tests ---- */

TEST_WITH(test_lazy_and_cached, begin, end)
{
    struct fixture *f = *state;

    assert_int_equal(f->server.fetches, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(find(f, "k0"), ERROR_NONE);
    assert_int_equal(f->server.fetches, 1);
    now_ms += HOUR_MS - 1;
    assert_int_equal(find(f, "k0"), ERROR_NONE);
    assert_int_equal(f->server.fetches, 1);
    now_ms += 1;
    assert_int_equal(find(f, "k0"), ERROR_NONE);
    assert_int_equal(f->server.fetches, 2);
}

TEST_WITH(test_max_age, begin, end)
{
    static const struct {
        const char *headers;
        int64_t seconds;
    } cases[] = {
        {"Cache-Control: max-age=600\r\n", 600},
        {"Cache-Control: public,MAX-AGE=600 , x\r\n", 600},
        {"Cache-Control: s-maxage=7, max-age=600\r\nAge: 100\r\n", 500},
        {"Cache-Control: max-age=0\r\n", 60},
        {"Cache-Control: no-store\r\n", 300},
        {"", 300},
        {"Cache-Control: max-age=99999999\r\n", 86400},
        {"Cache-Control: max-age=99999999999999999999999\r\n", 300},
        {"Cache-Control: max-age=-5\r\n", 300},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        f->server.headers = cases[i].headers;
        now_ms += 48 * HOUR_MS;
        int before = f->server.fetches;
        assert_int_equal(find(f, "k0"), ERROR_NONE);
        now_ms += cases[i].seconds * 1000 - 1;
        assert_int_equal(find(f, "k0"), ERROR_NONE);
        assert_int_equal(f->server.fetches, before + 1);
        now_ms += 1;
        assert_int_equal(find(f, "k0"), ERROR_NONE);
        assert_int_equal(f->server.fetches, before + 2);
    }
}

TEST_WITH(test_rotation, begin, end)
{
    struct fixture *f = *state;

    assert_int_equal(find(f, "k0"), ERROR_NONE);
    f->server.count = 2;
    assert_int_equal(find(f, "k1"), ERROR_NONE); /* at once */
    assert_int_equal(f->server.fetches, 2);
    f->server.first = 1;
    assert_int_equal(find(f, "k2"), ERROR_UNAUTHORIZED); /* too soon after that one */
    assert_int_equal(find(f, "k0"), ERROR_NONE);
    assert_int_equal(f->server.fetches, 2);
    now_ms += 30000;
    assert_int_equal(find(f, "k2"), ERROR_NONE);
    assert_int_equal(find(f, "k0"), ERROR_UNAUTHORIZED); /* withdrawn */
    assert_int_equal(f->server.fetches, 3);
}

TEST_WITH(test_withdrawn_at_refresh, begin, end)
{
    struct fixture *f = *state;

    assert_int_equal(find(f, "k0"), ERROR_NONE);
    f->server.first = 1;
    now_ms += HOUR_MS;
    assert_int_equal(find(f, "k0"), ERROR_UNAUTHORIZED);
}

TEST_WITH(test_unknown_keys, begin, end)
{
    struct fixture *f = *state;

    for (int i = 0; i < 100; i++)
        assert_int_equal(find(f, "k9"), ERROR_UNAUTHORIZED);
    assert_int_equal(f->server.fetches, 2); /* the first, and one for a new id */
    for (int i = 0; i < 60; i++) {
        now_ms += 1000;
        assert_int_equal(find(f, "k9"), ERROR_UNAUTHORIZED);
    }
    assert_int_equal(f->server.fetches, 4); /* one every 30 s */
}

TEST_WITH(test_issuer_down, begin, end)
{
    struct fixture *f = *state;

    assert_int_equal(find(f, "k0"), ERROR_NONE);
    f->server.status = 500;
    assert_int_equal(find(f, "k1"), ERROR_UNAVAILABLE);
    assert_int_equal(find(f, "k2"), ERROR_UNAVAILABLE);
    assert_int_equal(f->server.fetches, 2);
    now_ms += HOUR_MS; /* old */
    for (int i = 0; i < 30; i++) {
        assert_int_equal(find(f, "k0"), ERROR_NONE);
        assert_int_equal(find(f, "k1"), ERROR_UNAVAILABLE);
        now_ms += 1000;
    }
    assert_int_equal(f->server.fetches, 3);
    now_ms += 24 * HOUR_MS - 30000 - 1; /* the last moment */
    assert_int_equal(find(f, "k0"), ERROR_NONE);
    now_ms += 1;
    assert_int_equal(find(f, "k0"), ERROR_UNAVAILABLE);
    f->server.status = 200;
    now_ms += 30000;
    assert_int_equal(find(f, "k0"), ERROR_NONE);
}

/* As long as there are no keys at all, attempts are made sooner: 1, 2, 4, … 30 s. */
TEST_WITH(test_down_from_the_start, begin, end)
{
    struct fixture *f = *state;
    int64_t seconds = 0;

    f->server.status = 404;
    for (; seconds < 121; seconds++, now_ms += 1000)
        assert_int_equal(find(f, "k0"), ERROR_UNAVAILABLE);
    /* at 0, 1, 3, 7, 15, 31, 61, 91 */
    assert_int_equal(f->server.fetches, 8);
    f->server.status = 200;
    assert_int_equal(find(f, "k0"), ERROR_NONE);
}

struct finder {
    struct fixture *f;
    pthread_t thread;
    atomic_bool *stop;
    int found, refused, passing, other;
    enum error_code code;
    int64_t took_ms;
};

static void *find_once(void *ctx)
{
    struct finder *finder = ctx;
    int64_t begin_ms = clock_monotonic_ms();

    finder->code = find_within(finder->f, "k0", finder->found);
    finder->took_ms = clock_monotonic_ms() - begin_ms;
    return NULL;
}

/* All wait for the one fetch, those with less time for less long. */
TEST_WITH(test_waiters, begin, end)
{
    struct fixture *f = *state;
    struct finder finders[THREADS];

    f->server.hold = true;
    for (int i = 0; i < THREADS; i++) {
        finders[i] = (struct finder){.f = f, .found = i > 0 && i % 2 == 1 ? 50 : 60000};
        assert_int_equal(pthread_create(&finders[i].thread, NULL, find_once, &finders[i]), 0);
        while (i == 0 && f->server.fetches == 0)
            poll(NULL, 0, 1);
    }
    for (int i = 1; i < THREADS; i += 2) {
        pthread_join(finders[i].thread, NULL);
        assert_int_equal(finders[i].code, ERROR_DEADLINE);
        assert_true(finders[i].took_ms >= 45);
    }
    f->server.hold = false;
    for (int i = 0; i < THREADS; i += 2) {
        pthread_join(finders[i].thread, NULL);
        assert_int_equal(finders[i].code, ERROR_NONE);
    }
    assert_int_equal(f->server.fetches, 1);
}

static void *find_much(void *ctx)
{
    struct finder *finder = ctx;
    unsigned n = (unsigned)(uintptr_t)finder;

    while (!atomic_load(finder->stop)) {
        char kid[16];
        snprintf(kid, sizeof(kid), "k%u", n++ % (KEYS + 1)); /* one of them never exists */
        struct error err = {0};
        EVP_PKEY *key = jwks_find(finder->f->jwks, kid, clock_monotonic_ms() + 5000, &err);
        if (key != NULL && EVP_PKEY_eq(key, keys[kid[1] - '0']) == 1)
            finder->found++;
        else if (key == NULL && err.code == ERROR_UNAUTHORIZED)
            finder->refused++;
        else if (key == NULL && error_is_passing(err.code))
            finder->passing++;
        else
            finder->other++;
        EVP_PKEY_free(key);
    }
    return NULL;
}

/* Time flies, keys come and go, the issuer fails now and then, and 16 threads look on. */
TEST_WITH(test_threads_while_keys_rotate, begin, end)
{
    struct fixture *f = *state;
    struct finder finders[THREADS];
    atomic_bool stop = false;
    int found = 0, refused = 0, rounds = 0;

    for (int i = 0; i < THREADS; i++) {
        finders[i] = (struct finder){.f = f, .stop = &stop};
        assert_int_equal(pthread_create(&finders[i].thread, NULL, find_much, &finders[i]), 0);
    }
    for (int i = 0; i < 100 || (f->server.fetches <= 10 && i < 10000); i++, rounds++) {
        f->server.first = i % KEYS;
        f->server.count = 1 + i % KEYS;
        f->server.status = i % 7 == 3 ? 500 : 200;
        now_ms += i % 5 == 0 ? HOUR_MS : 31000;
        poll(NULL, 0, 5);
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(finders[i].thread, NULL);
        assert_int_equal(finders[i].other, 0);
        found += finders[i].found;
        refused += finders[i].refused;
    }
    assert_true(found > 0);
    assert_true(refused > 0);
    assert_true(f->server.fetches > 10);
    /* no more than one for its age and one for an unknown id */
    assert_true(f->server.fetches < 2 * rounds + 10);
}

TEST_MAIN(make_keys, free_keys)
