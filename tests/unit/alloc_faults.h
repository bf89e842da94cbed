/* Memory that runs out, for the tests whose name begins with test_alloc_faults: the linker replaces
 * what our code calls to get memory (and threads and streams, which are memory too) by the __wrap_
 * functions below (--wrap, see the Makefile), which can fail. SQLite and libcurl get such ones by
 * their own hooks (alloc_faults_hook). What base/xmalloc gives, to us and to Jansson, counts and
 * does not fail. What other libraries get is not ours, and neither fails nor counts: OpenSSL,
 * libvips, ONNX Runtime, libmicrohttpd, Expat and libc.
 *
 * A scenario is run again and again, its first, second, … allocation failing, until none is left
 * to fail: that one alone ("once"), and that one and all after it ("from"). Each time it must
 * succeed, or say why not; all memory must be given back; and the next run must succeed.
 *
 * Only for one test program at a time: definitions, not declarations. */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"
#include "test_cases.h"

#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sqlite3.h>

/* False, with *err, when an allocation failed. What it returns true for, it has checked itself. */
typedef bool (*alloc_scenario)(void *ctx, struct error *err);

enum { ALLOC_LIVE_SLOTS = 1 << 16, ALLOC_RUNS_MAX = 20000 };

/* All of the first faults, and a sample of those that follow, to be done in seconds. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ALLOC_ALL_OF_FIRST = 16 };
#else
enum { ALLOC_ALL_OF_FIRST = 75 };
#endif

static struct {
    pthread_mutex_t lock;
    struct alloc_live { /* a hash table with linear probing */
        void *p;
        const void *by;
    } live[ALLOC_LIVE_SLOTS];
    long live_count;
    long left;         /* allocations until the one that fails; 0: none does */
    bool from_then_on; /* and all after it */
    bool failed;       /* one has */
    const void *failed_by;
    /* for the report */
    const char *scenario;
    long n;
} alloc_faults = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- which memory is in use */

static size_t alloc_slot(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15ULL >> 48) % ALLOC_LIVE_SLOTS;
}

static void alloc_remember(void *p, const void *by)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&alloc_faults.lock);
    size_t i = alloc_slot(p);
    while (alloc_faults.live[i].p != NULL)
        i = (i + 1) % ALLOC_LIVE_SLOTS;
    alloc_faults.live[i] = (struct alloc_live){p, by};
    if (++alloc_faults.live_count >= ALLOC_LIVE_SLOTS / 2)
        abort(); /* a larger table is needed */
    pthread_mutex_unlock(&alloc_faults.lock);
}

/* What is not known came from a library, or from before. */
static void alloc_forget(const void *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&alloc_faults.lock);
    struct alloc_live *live = alloc_faults.live;
    size_t i = alloc_slot(p);
    while (live[i].p != NULL && live[i].p != p)
        i = (i + 1) % ALLOC_LIVE_SLOTS;
    bool known = live[i].p == p;
    if (known)
        alloc_faults.live_count--;
    for (size_t j = i; known;) { /* close the gap */
        live[i].p = NULL;
        size_t home;
        do {
            j = (j + 1) % ALLOC_LIVE_SLOTS;
            home = alloc_slot(live[j].p);
        } while (live[j].p != NULL && (i <= j ? i < home && home <= j : i < home || home <= j));
        if (live[j].p == NULL)
            break;
        live[i] = live[j];
        i = j;
    }
    pthread_mutex_unlock(&alloc_faults.lock);
}

/* ---- failing */

static bool alloc_fails(const void *by)
{
    pthread_mutex_lock(&alloc_faults.lock);
    bool fails = alloc_faults.left == 1;
    if (alloc_faults.left > 1 || (fails && !alloc_faults.from_then_on))
        alloc_faults.left--;
    if (fails) {
        alloc_faults.failed = true;
        alloc_faults.failed_by = by;
        errno = ENOMEM;
    }
    pthread_mutex_unlock(&alloc_faults.lock);
    return fails;
}

static void alloc_arm(long n, bool from_then_on)
{
    pthread_mutex_lock(&alloc_faults.lock);
    alloc_faults.left = n;
    alloc_faults.from_then_on = from_then_on;
    alloc_faults.failed = false;
    pthread_mutex_unlock(&alloc_faults.lock);
}

#define ALLOC_WRAP(type, name, params)                                                             \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params

#define ALLOC_OR_NULL(call)                                                                        \
    do {                                                                                           \
        const void *by_ = __builtin_return_address(0);                                             \
        void *p_ = alloc_fails(by_) ? NULL : (void *)(call);                                       \
        alloc_remember(p_, by_);                                                                   \
        return p_;                                                                                 \
    } while (0)

ALLOC_WRAP(void *, malloc, (size_t size))
{
    ALLOC_OR_NULL(__real_malloc(size));
}

ALLOC_WRAP(void *, calloc, (size_t count, size_t size))
{
    ALLOC_OR_NULL(__real_calloc(count, size));
}

ALLOC_WRAP(void *, aligned_alloc, (size_t alignment, size_t size))
{
    ALLOC_OR_NULL(__real_aligned_alloc(alignment, size));
}

ALLOC_WRAP(char *, strdup, (const char *s))
{
    ALLOC_OR_NULL(__real_strdup(s));
}

ALLOC_WRAP(void, free, (void *p))
{
    alloc_forget(p);
    __real_free(p);
}

/* The new block is known by who asked for it last. */
static void *alloc_moved(void *old, void *new, const void *by)
{
    if (new != NULL) {
        alloc_forget(old);
        alloc_remember(new, by);
    }
    return new;
}

ALLOC_WRAP(void *, realloc, (void *p, size_t size))
{
    const void *by = __builtin_return_address(0);

    if (alloc_fails(by))
        return NULL;
    alloc_forget(p); /* before another thread may be given the same address */
    void *new = __real_realloc(p, size);
    alloc_remember(new != NULL ? new : p, by);
    return new;
}

ALLOC_WRAP(void *, reallocarray, (void *p, size_t count, size_t size))
{
    const void *by = __builtin_return_address(0);

    if (alloc_fails(by))
        return NULL;
    alloc_forget(p);
    void *new = __real_reallocarray(p, count, size);
    alloc_remember(new != NULL ? new : p, by);
    return new;
}

ALLOC_WRAP(char *, realpath, (const char *path, char *out))
{
    if (out != NULL)
        return __real_realpath(path, out);
    ALLOC_OR_NULL(__real_realpath(path, NULL));
}

/* getline, with and without optimisation */
ALLOC_WRAP(ssize_t, getline, (char **line, size_t *size, FILE *f))
{
    const void *by = __builtin_return_address(0);
    char *old = *line;

    if (alloc_fails(by))
        return -1;
    ssize_t n = __real_getline(line, size, f);
    if (*line != old)
        alloc_moved(old, *line, by);
    return n;
}

ALLOC_WRAP(ssize_t, __getdelim, (char **line, size_t *size, int end, FILE *f))
{
    const void *by = __builtin_return_address(0);
    char *old = *line;

    if (alloc_fails(by))
        return -1;
    ssize_t n = __real___getdelim(line, size, end, f);
    if (*line != old)
        alloc_moved(old, *line, by);
    return n;
}

/* What has memory of its own inside: it may fail, but is not counted. */
ALLOC_WRAP(FILE *, fopen, (const char *path, const char *mode))
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_fopen(path, mode);
}

ALLOC_WRAP(DIR *, opendir, (const char *path))
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_opendir(path);
}

ALLOC_WRAP(DIR *, fdopendir, (int fd))
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_fdopendir(fd);
}

ALLOC_WRAP(int, pthread_create,
           (pthread_t * ret, const pthread_attr_t *attr, void *(*fn)(void *), void *arg))
{
    return alloc_fails(__builtin_return_address(0)) ? EAGAIN
                                                    : __real_pthread_create(ret, attr, fn, arg);
}

/* What never fails, but counts. */
static void *alloc_always(void *p, const void *by)
{
    alloc_remember(p, by);
    return p;
}

ALLOC_WRAP(void *, xmalloc, (size_t size))
{
    return alloc_always(__real_malloc(size), __builtin_return_address(0));
}

ALLOC_WRAP(void *, xcalloc, (size_t count, size_t size))
{
    return alloc_always(__real_calloc(count, size), __builtin_return_address(0));
}

ALLOC_WRAP(void *, xreallocarray, (void *p, size_t count, size_t size))
{
    alloc_forget(p);
    return alloc_always(__real_reallocarray(p, count, size), __builtin_return_address(0));
}

ALLOC_WRAP(char *, xstrdup, (const char *s))
{
    return alloc_always(__real_strdup(s), __builtin_return_address(0));
}

ALLOC_WRAP(char *, xasprintf, (const char *fmt, ...))
{
    char *ret = NULL;
    va_list args;

    va_start(args, fmt);
    int len = vasprintf(&ret, fmt, args);
    va_end(args);
    return len >= 0 ? alloc_always(ret, __builtin_return_address(0)) : NULL;
}

/* ---- the libraries that can be told whom to ask for memory */

/* Not counted: they have caches. sqlite3_memory_used() tells, and LeakSanitizer at the end. */
static void *alloc_library_malloc(size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_malloc(size);
}

static void *alloc_library_realloc(void *p, size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_realloc(p, size);
}

static void *alloc_library_calloc(size_t count, size_t size)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_calloc(count, size);
}

static char *alloc_library_strdup(const char *s)
{
    return alloc_fails(__builtin_return_address(0)) ? NULL : __real_strdup(s);
}

static void *alloc_sqlite_malloc(int size)
{
    return alloc_library_malloc((size_t)size);
}

static void *alloc_sqlite_realloc(void *p, int size)
{
    return alloc_library_realloc(p, (size_t)size);
}

static int alloc_sqlite_size(void *p)
{
    return (int)malloc_usable_size(p);
}

static int alloc_sqlite_round_up(int size)
{
    return (size + 7) & ~7;
}

static int alloc_sqlite_init(void *ctx)
{
    return SQLITE_OK;
}

static void alloc_sqlite_shutdown(void *ctx)
{
}

/* In a group's setup, before any of them is used. */
static inline void alloc_faults_hook(void)
{
    static const struct sqlite3_mem_methods methods = {
        alloc_sqlite_malloc,   __real_free,       alloc_sqlite_realloc,  alloc_sqlite_size,
        alloc_sqlite_round_up, alloc_sqlite_init, alloc_sqlite_shutdown, NULL,
    };

    assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
    assert_int_equal(curl_global_init_mem(CURL_GLOBAL_DEFAULT, alloc_library_malloc, __real_free,
                                          alloc_library_realloc, alloc_library_strdup,
                                          alloc_library_calloc),
                     CURLE_OK);
}

/* ---- running */

extern const char __executable_start;

/* For addr2line -e PROGRAM. */
static unsigned long alloc_address(const void *by)
{
    return (unsigned long)((const char *)by - &__executable_start);
}

static void alloc_report_live(void)
{
    int told = 0;

    for (size_t i = 0; i < ALLOC_LIVE_SLOTS && told < 20; i++)
        if (alloc_faults.live[i].p != NULL && ++told <= 20)
            print_error("  in use: allocated before 0x%lx\n",
                        alloc_address(alloc_faults.live[i].by));
}

/* Of each test: says where it was when it failed. */
static inline int alloc_faults_teardown(void **state)
{
    alloc_arm(0, false);
    if (alloc_faults.scenario != NULL)
        print_error("in \"%s\", fault %ld %s, before 0x%lx\n", alloc_faults.scenario,
                    alloc_faults.n, alloc_faults.from_then_on ? "and all after it" : "alone",
                    alloc_address(alloc_faults.failed_by));
    alloc_faults.scenario = NULL;
    return 0;
}

static void alloc_run_well(alloc_scenario run, void *ctx, const char *when)
{
    struct error err = {0};

    if (!run(ctx, &err))
        fail_msg("%s: fails %s: %s", alloc_faults.scenario, when, err.message);
}

/* One run with a fault. False when there were fewer allocations. */
static bool alloc_run_with_fault(alloc_scenario run, void *ctx)
{
    struct error err = {0};

    alloc_arm(alloc_faults.n, alloc_faults.from_then_on);
    bool ok = run(ctx, &err);
    bool failed = alloc_faults.failed;
    alloc_arm(0, alloc_faults.from_then_on);
    if (ok && err.code != ERROR_NONE)
        fail_msg("succeeds, but sets an error: %s", err.message);
    /* 4xx: the client would not try again */
    if (!ok &&
        (err.code == ERROR_NONE || err.message[0] == '\0' || error_http_status(err.code) < 500))
        fail_msg("fails with the wrong error: %s \"%s\"", error_slug(err.code), err.message);
    return failed;
}

/* All faults of a scenario that starts and ends with nothing of its own in use, apart from what
 * `ctx` holds, which may be left empty. */
static inline void alloc_faults_run(const char *name, alloc_scenario run, void *ctx)
{
    alloc_faults.scenario = name;
    alloc_faults.n = 0;
    alloc_run_well(run, ctx, "by itself"); /* libraries fill caches of their own */
    alloc_run_well(run, ctx, "by itself");
    for (int from = 0; from <= 1; from++) {
        alloc_faults.from_then_on = from == 1;
        for (alloc_faults.n = 1;; alloc_faults.n += 1 + alloc_faults.n / ALLOC_ALL_OF_FIRST) {
            assert_true(alloc_faults.n < ALLOC_RUNS_MAX);
            long before = alloc_faults.live_count;
            bool failed = alloc_run_with_fault(run, ctx);
            if (alloc_faults.live_count > before) {
                alloc_report_live();
                fail_msg("%ld allocations were not freed", alloc_faults.live_count - before);
            }
            if (!failed)
                break;
            alloc_run_well(run, ctx, "after the fault");
        }
    }
    assert_true(alloc_faults.n > 1); /* otherwise the scenario shows nothing */
    if (getenv("ALLOC_FAULTS_VERBOSE") != NULL)
        print_message("%s: %ld allocations\n", name, alloc_faults.n - 1);
    alloc_faults.scenario = NULL;
}
