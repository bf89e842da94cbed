/* The store interface on a directory: what it keeps, what it refuses, and what happens when the
 * disk is full, read-only, or the process is killed. */
#include "../test_cases.h"
#include "../test_folder.h"
#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char folder[PATH_MAX]; /* holds everything below; one sub-folder per test */
static bool may_mount;        /* in a mount namespace of our own */

struct fixture {
    struct store *store;
    char root[PATH_MAX];
    struct error err;
};

static void begin_at(struct fixture *f)
{
    CLEANUP_FREE char *url = xasprintf("file:%s", f->root);

    f->err = (struct error){0};
    f->store = store_open(&(struct store_options){.url = url}, &f->err);
    if (f->store == NULL)
        fail_msg("%s", f->err.message);
}

static void begin(struct fixture *f)
{
    static int number;

    *f = (struct fixture){0};
    assert_true(snprintf(f->root, sizeof(f->root), "%.4000s/%d", folder, ++number) > 0);
    begin_at(f);
}

static int64_t soon(void)
{
    return clock_monotonic_ms() + 60000;
}

static bool put_bytes(struct fixture *f, const char *key, struct bytes data, bool if_absent,
                      bool *existed)
{
    struct store_put put = {.key = key,
                            .data = data,
                            .content_type = "image/jpeg",
                            .if_absent = if_absent,
                            .deadline_ms = soon()};

    if (!string_ends_with(key, ".jpg"))
        put.content_type = "application/octet-stream";
    f->err = (struct error){0};
    return store_put(f->store, &put, existed, &f->err);
}

static bool put(struct fixture *f, const char *key, const char *text)
{
    return put_bytes(f, key, bytes_from_str(text), false, NULL);
}

static bool get(struct fixture *f, const char *key, struct buffer *data)
{
    struct store_get g = {.key = key, .max_bytes = 1 << 20, .deadline_ms = soon()};

    f->err = (struct error){0};
    return store_get(f->store, &g, data, NULL, &f->err);
}

static void expect_text(struct fixture *f, const char *key, const char *text)
{
    CLEANUP(buffer_done) struct buffer data = {0};

    if (!get(f, key, &data))
        fail_msg("%s: %s", key, f->err.message);
    assert_true(bytes_equal(buffer_view(&data), bytes_from_str(text)));
}

static void expect_absent(struct fixture *f, const char *key)
{
    CLEANUP(buffer_done) struct buffer data = {0};

    assert_fails(f->err, ERROR_NOT_FOUND, get(f, key, &data));
}

static const char *path_of(const struct fixture *f, const char *name)
{
    static char path[2 * PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", f->root, name);
    return path;
}

static void drop_file(const struct fixture *f, const char *name, const char *text)
{
    FILE *file = fopen(path_of(f, name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int entries_in(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;

    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(dir);
    return n;
}

static void end(struct fixture *f)
{
    assert_int_equal(entries_in(path_of(f, ".tmp")), 0); /* whatever happened */
    store_free(f->store);
}

TEST(test_round_trip)
{
    static const char *const keys[] = {
        "a.jpg", "in/the/deep.jpg", "a b", "100%", "ü?#+&\\", "..a", "-rf", "*", "tmp", ".tmpx"};
    struct fixture f;
    bool existed = true;

    begin(&f);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        assert_true(put_bytes(&f, keys[i], bytes_from_str(keys[i]), true, &existed));
        assert_false(existed);
    }
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        expect_text(&f, keys[i], keys[i]);
    assert_true(put_bytes(&f, "empty", bytes_of(NULL, 0), false, &existed));
    expect_text(&f, "empty", "");
    expect_absent(&f, "b.jpg");
    expect_absent(&f, "a.jpg/b");
    expect_absent(&f, "in/the");
    expect_absent(&f, "no/where");
    end(&f);
    begin_at(&f); /* still there for the next process */
    expect_text(&f, "in/the/deep.jpg", "in/the/deep.jpg");
    end(&f);
}

TEST(test_if_absent_keeps_and_put_replaces)
{
    struct fixture f;
    struct store_info before = {0};
    struct store_info after = {0};
    bool existed = false;

    begin(&f);
    assert_true(put(&f, "k", "one"));
    assert_true(store_head(f.store, "k", soon(), &before, &f.err));
    assert_true(put_bytes(&f, "k", bytes_from_str("two"), true, &existed));
    assert_true(existed);
    assert_true(store_head(f.store, "k", soon(), &after, &f.err));
    assert_string_equal(before.etag, after.etag);
    expect_text(&f, "k", "one");
    assert_true(put(&f, "k", "two"));
    expect_text(&f, "k", "two");
    assert_true(store_head(f.store, "k", soon(), &after, &f.err));
    assert_string_not_equal(before.etag, after.etag);
    assert_int_equal(after.size, 3);
    assert_in_range(clock_wall_ms() - after.modified_ms, 0, 60000);
    end(&f);
}

TEST(test_invalid_types)
{
    static const char *const types[] = {"", "a\r\nb", "ü"};
    struct fixture f;
    struct store_put p = {.key = "k", .content_type = "a/b", .deadline_ms = soon()};

    begin(&f);
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        f.err.code = ERROR_NONE;
        p.content_type = types[i];
        assert_fails(f.err, ERROR_BAD_REQUEST, store_put(f.store, &p, NULL, &f.err));
    }
    expect_absent(&f, "k");
    end(&f);
}

TEST(test_ranges_and_limits)
{
    static const struct {
        uint64_t offset, length;
        size_t max_bytes;
        enum error_code code;
        const char *text;
    } cases[] = {
        {0, 0, 10, ERROR_NONE, "0123456789"}, {0, 4, 4, ERROR_NONE, "0123"},
        {4, 0, 6, ERROR_NONE, "456789"},      {9, 1, 1, ERROR_NONE, "9"},
        {8, UINT64_MAX, 2, ERROR_NONE, "89"}, {10, 1, 100, ERROR_RANGE, NULL},
        {10, 0, 100, ERROR_RANGE, NULL},      {UINT64_MAX, UINT64_MAX, 100, ERROR_RANGE, NULL},
        {0, 0, 9, ERROR_TOO_LARGE, NULL},     {4, 0, 5, ERROR_TOO_LARGE, NULL},
        {0, 0, 0, ERROR_TOO_LARGE, NULL},
    };
    struct fixture f;

    begin(&f);
    assert_true(put(&f, "k", "0123456789"));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP(buffer_done) struct buffer data = {0};
        struct store_info info = {0};
        struct store_get g = {.key = "k",
                              .offset = cases[i].offset,
                              .length = cases[i].length,
                              .max_bytes = cases[i].max_bytes,
                              .deadline_ms = soon()};
        f.err = (struct error){0};
        bool ok = store_get(f.store, &g, &data, &info, &f.err);
        assert_int_equal(f.err.code, cases[i].code);
        assert_int_equal(ok, cases[i].code == ERROR_NONE);
        assert_true(bytes_equal(buffer_view(&data), bytes_from_str(ok ? cases[i].text : "")));
        assert_int_equal(info.size, ok ? 10 : 0);
    }
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX(13);
    assert_true(buffer_append_str(&data, "abc", &f.err));
    assert_true(get(&f, "k", &data)); /* appended */
    assert_true(bytes_equal(buffer_view(&data), bytes_from_str("abc0123456789")));
    assert_false(get(&f, "k", &data)); /* the caller's own maximum */
    assert_int_equal(f.err.code, ERROR_TOO_LARGE);
    assert_int_equal(data.len, 13);
    struct store_get bounded = {.key = "k", .max_bytes = 9, .deadline_ms = soon()};
    CLEANUP(buffer_done) struct buffer roomy = BUFFER_MAX(1000);
    assert_fails(f.err, ERROR_TOO_LARGE, store_get(f.store, &bounded, &roomy, NULL, &f.err));
    end(&f);
}

TEST(test_refused_keys)
{
    char long_segment[300] = "";
    char deep[200] = "";
    struct fixture f;

    memset(long_segment, 's', 256);
    for (int i = 0; i < 64; i++)
        strcat(deep, "d/");
    strcat(deep, "d");
    const char *const bad[] = {
        "../escape", "a/../../escape", "a/..",   ".",        "",     "a//b",       "/a",
        "a/",        ".tmp",           ".tmp/x", ".tmp/a/b", "a\nb", long_segment, deep};
    begin(&f);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP(buffer_done) struct buffer data = {0};
        struct store_info info;
        if (put(&f, bad[i], "x"))
            fail_msg("put '%s'", bad[i]);
        assert_int_equal(f.err.code, ERROR_BAD_REQUEST);
        assert_fails(f.err, ERROR_BAD_REQUEST, get(&f, bad[i], &data));
        assert_fails(f.err, ERROR_BAD_REQUEST, store_head(f.store, bad[i], soon(), &info, &f.err));
        assert_fails(f.err, ERROR_BAD_REQUEST, store_delete(f.store, bad[i], soon(), &f.err));
    }
    assert_int_equal(entries_in(f.root), 1); /* .tmp */
    assert_true(put(&f, long_segment + 1, "255"));
    assert_true(put(&f, deep + 2, "64 segments"));
    expect_text(&f, deep + 2, "64 segments");
    end(&f);
}

TEST(test_conflicting_keys)
{
    struct fixture f;
    bool existed;

    begin(&f);
    assert_true(put(&f, "a", "1"));
    assert_fails(f.err, ERROR_BAD_REQUEST, put(&f, "a/b", "2"));
    assert_true(put(&f, "d/e", "3"));
    assert_fails(f.err, ERROR_BAD_REQUEST, put(&f, "d", "4"));
    assert_fails(f.err, ERROR_BAD_REQUEST, put_bytes(&f, "d", bytes_from_str("4"), true, &existed));
    expect_absent(&f, "d");
    expect_absent(&f, "a/b");
    assert_true(store_delete(f.store, "d", soon(), &f.err)); /* no object: nothing happens */
    assert_true(store_delete(f.store, "a/b", soon(), &f.err));
    expect_text(&f, "a", "1");
    expect_text(&f, "d/e", "3");
    end(&f);
}

static bool note_any(void *ctx, const char *key, uint64_t size)
{
    *(bool *)ctx = true;
    return true;
}

TEST(test_links_lead_nowhere)
{
    static const char *const links[] = {"out.jpg", "dir/secret", "dangling", "inside",
                                        "loop",    "pipe",       "dir/new"};
    struct fixture f;
    struct fixture outside;
    bool any = false;
    bool existed;

    begin(&outside);
    drop_file(&outside, "secret", "secret");
    begin(&f);
    CLEANUP_FREE char *secret = strdup(path_of(&outside, "secret"));
    assert_int_equal(symlink(secret, path_of(&f, "out.jpg")), 0);
    assert_int_equal(symlink(outside.root, path_of(&f, "dir")), 0);
    assert_int_equal(symlink("/nonexistent", path_of(&f, "dangling")), 0);
    assert_int_equal(symlink(".tmp/../.", path_of(&f, "inside")), 0);
    assert_int_equal(symlink("loop", path_of(&f, "loop")), 0);
    assert_int_equal(mkfifo(path_of(&f, "pipe"), 0666), 0);
    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        expect_absent(&f, links[i]);
        assert_fails(f.err, ERROR_BAD_REQUEST,
                     put_bytes(&f, links[i], bytes_from_str("x"), true, &existed));
        assert_true(store_delete(f.store, links[i], soon(), &f.err));
    }
    assert_true(store_list(f.store, "", soon(), note_any, &any, &f.err));
    assert_true(store_list(f.store, "dir/", soon(), note_any, &any, &f.err));
    assert_false(any);
    assert_false(put(&f, "dir/secret", "overwritten"));
    assert_true(put(&f, "out.jpg", "mine")); /* takes the link's place; its target is untouched */
    expect_text(&f, "out.jpg", "mine");
    expect_text(&outside, "secret", "secret");
    assert_int_equal(entries_in(outside.root), 2); /* .tmp, secret */
    end(&f);
    end(&outside);
}

struct racer {
    struct fixture *f;
    pthread_barrier_t *barrier;
    char text[64];
    bool ok, existed;
};

static void *race_main(void *ctx)
{
    struct racer *r = ctx;
    struct store_put p = {.key = "new/dir/race",
                          .data = bytes_from_str(r->text),
                          .content_type = "application/octet-stream",
                          .if_absent = true,
                          .deadline_ms = soon()};
    struct error err = {0};

    pthread_barrier_wait(r->barrier);
    r->ok = store_put(r->f->store, &p, &r->existed, &err);
    return NULL;
}

TEST(test_if_absent_has_one_winner)
{
    enum { RACERS = 16 };

    for (int round = 0; round < 5; round++) {
        struct fixture f;
        struct racer racers[RACERS];
        pthread_t threads[RACERS];
        pthread_barrier_t barrier;
        const char *winner = NULL;

        begin(&f);
        pthread_barrier_init(&barrier, NULL, RACERS);
        for (int i = 0; i < RACERS; i++) {
            racers[i] = (struct racer){.f = &f, .barrier = &barrier};
            snprintf(racers[i].text, sizeof(racers[i].text), "racer %d", i);
            assert_int_equal(pthread_create(&threads[i], NULL, race_main, &racers[i]), 0);
        }
        for (int i = 0; i < RACERS; i++) {
            pthread_join(threads[i], NULL);
            assert_true(racers[i].ok);
            if (!racers[i].existed) {
                assert_null(winner);
                winner = racers[i].text;
            }
        }
        assert_non_null(winner);
        expect_text(&f, "new/dir/race", winner);
        pthread_barrier_destroy(&barrier);
        end(&f);
    }
}

enum { MIX_SIZE = 300000 };

struct reader {
    struct fixture *f;
    atomic_bool stop;
    atomic_int reads, mixed;
};

static void *read_main(void *ctx)
{
    struct reader *r = ctx;

    while (!r->stop) {
        CLEANUP(buffer_done) struct buffer data = {0};
        struct store_get g = {.key = "k", .max_bytes = MIX_SIZE, .deadline_ms = soon()};
        struct error err = {0};
        bool ok = store_get(r->f->store, &g, &data, NULL, &err) && data.len == MIX_SIZE;
        if (!ok || memcmp(data.data, data.data + 1, data.len - 1) != 0)
            r->mixed++;
        r->reads++;
    }
    return NULL;
}

TEST(test_replacing_is_atomic)
{
    static uint8_t bytes[MIX_SIZE];
    struct fixture f;
    struct reader reader = {.f = &f};
    pthread_t threads[2];

    begin(&f);
    assert_true(put_bytes(&f, "k", bytes_of(bytes, sizeof(bytes)), false, NULL));
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_main, &reader), 0);
    for (int i = 1; i <= 50 || reader.reads < 50; i++) {
        memset(bytes, i, sizeof(bytes));
        assert_true(put_bytes(&f, "k", bytes_of(bytes, sizeof(bytes)), false, NULL));
    }
    reader.stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(reader.mixed, 0);
    end(&f);
}

static bool check_whole(void *ctx, const char *key, uint64_t size)
{
    if (size != MIX_SIZE)
        fail_msg("a partial object of %llu bytes", (unsigned long long)size);
    *(int *)ctx += 1;
    return true;
}

static void put_until_killed(struct fixture *f, int report)
{
    enum { PUTS_MAX = 100 }; /* the one who kills may be late, and the disk small */
    static uint8_t bytes[MIX_SIZE];
    char key[32];

    for (int i = 0; i < PUTS_MAX; i++) {
        snprintf(key, sizeof(key), "d%d/%d", i % 3, i);
        if (!put_bytes(f, key, bytes_of(bytes, sizeof(bytes)), true, NULL) ||
            write(report, &i, sizeof(i)) != (ssize_t)sizeof(i))
            _exit(1);
    }
    pause();
}

TEST(test_kill_leaves_whole_objects)
{
    for (int round = 0; round < 15; round++) {
        struct fixture f;
        int channel[2];
        int last = -1;
        int found = 0;
        int status;

        begin(&f);
        assert_int_equal(pipe(channel), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            put_until_killed(&f, channel[1]);
        close(channel[1]);
        assert_int_equal(read(channel[0], &last, sizeof(last)), sizeof(last));
        usleep((useconds_t)(1500 * round));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status)); /* it did not stop by itself */
        while (read(channel[0], &last, sizeof(last)) == (ssize_t)sizeof(last))
            ;
        close(channel[0]);
        assert_true(store_list(f.store, "", soon(), check_whole, &found, &f.err));
        assert_in_range(found, last + 1, last + 2); /* all that were promised */
        store_free(f.store);
    }
}

TEST(test_stale_temporaries_are_removed)
{
    struct fixture f;
    struct timespec old[2] = {{.tv_sec = time(NULL) - 3700}, {.tv_sec = time(NULL) - 3700}};

    begin(&f);
    drop_file(&f, ".tmp/old", "x");
    drop_file(&f, ".tmp/young", "x");
    drop_file(&f, "object", "x");
    assert_int_equal(utimensat(AT_FDCWD, path_of(&f, ".tmp/old"), old, 0), 0);
    assert_int_equal(utimensat(AT_FDCWD, path_of(&f, "object"), old, 0), 0);
    store_free(f.store);
    begin_at(&f);
    assert_int_equal(access(path_of(&f, ".tmp/old"), F_OK), -1);
    assert_int_equal(access(path_of(&f, ".tmp/young"), F_OK), 0);
    expect_text(&f, "object", "x");
    assert_int_equal(unlink(path_of(&f, ".tmp/young")), 0);
    end(&f);
}

static void expect_unavailable(struct fixture *f, bool if_absent, size_t size, const char *text)
{
    CLEANUP_FREE uint8_t *bytes = calloc(1, size);
    unsigned before, after;
    int64_t known_ms;

    assert_non_null(bytes);
    store_health(f->store, &before, &known_ms);
    assert_false(put_bytes(f, "big", bytes_of(bytes, size), if_absent, NULL));
    if (f->err.code != ERROR_UNAVAILABLE || strstr(f->err.message, text) == NULL)
        fail_msg("%s: %s", error_slug(f->err.code), f->err.message);
    store_health(f->store, &after, &known_ms);
    assert_int_equal(after, before + 1);
    expect_absent(f, "big");
    assert_int_equal(entries_in(path_of(f, ".tmp")), 0);
}

TEST(test_file_size_limit)
{
    struct fixture f;
    struct rlimit old;

    begin(&f);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = {.rlim_cur = 100000, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    expect_unavailable(&f, true, 200000, "File too large");
    expect_unavailable(&f, false, 200000, "File too large");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    end(&f);
}

static void mount_or_skip(const char *path, const char *options)
{
    if (may_mount && mount("tmpfs", path, "tmpfs", 0, options) == 0)
        return;
    SKIP("cannot mount a tmpfs");
}

TEST(test_disk_full)
{
    static uint8_t half[600000];
    struct fixture f;
    bool existed = false;

    begin(&f);
    store_free(f.store);
    mount_or_skip(f.root, "size=1m");
    begin_at(&f);
    assert_true(put_bytes(&f, "half", bytes_of(half, sizeof(half)), false, NULL));
    expect_unavailable(&f, true, 600000, "No space left");
    expect_unavailable(&f, false, 600000, "No space left");
    assert_false(put_bytes(&f, "half", bytes_of(half, sizeof(half)), false, NULL));
    assert_true(put_bytes(&f, "half", bytes_of(half, sizeof(half)), true, &existed));
    assert_true(existed); /* repeating what succeeded needs no space */
    CLEANUP(buffer_done) struct buffer data = {0};
    assert_true(get(&f, "half", &data)); /* what was there stays whole */
    assert_int_equal(data.len, sizeof(half));
    assert_true(put(&f, "small", "fits"));
    end(&f);
    umount2(f.root, MNT_DETACH);
}

TEST(test_read_only)
{
    struct fixture f;
    CLEANUP_FREE char *url = NULL;

    begin(&f);
    store_free(f.store);
    mount_or_skip(f.root, "");
    begin_at(&f);
    assert_true(put(&f, "k", "kept"));
    assert_int_equal(mount(NULL, f.root, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    expect_unavailable(&f, true, 10, "Read-only");
    expect_unavailable(&f, false, 10, "Read-only");
    assert_fails(f.err, ERROR_UNAVAILABLE, store_delete(f.store, "k", soon(), &f.err));
    expect_text(&f, "k", "kept");
    end(&f);
    umount2(f.root, MNT_DETACH);
    /* from the start: a mistake of configuration */
    mount_or_skip(f.root, "ro");
    url = xasprintf("file:%s", f.root);
    f.err = (struct error){0};
    assert_null(store_open(&(struct store_options){.url = url}, &f.err));
    assert_int_equal(f.err.code, ERROR_CONFIG);
    umount2(f.root, MNT_DETACH);
}

struct seen {
    int count;
    int stop_after;
    uint64_t bytes;
    bool marks[64];
};

static bool see(void *ctx, const char *key, uint64_t size)
{
    struct seen *s = ctx;
    const char *digits = key + strcspn(key, "0123456789");

    assert_false(s->marks[atoi(digits)]); /* once each */
    s->marks[atoi(digits)] = true;
    s->count++;
    s->bytes += size;
    return s->count != s->stop_after;
}

static int list_count(struct fixture *f, const char *prefix, int stop_after)
{
    struct seen s = {.stop_after = stop_after};

    f->err = (struct error){0};
    if (!store_list(f->store, prefix, soon(), see, &s, &f->err))
        fail_msg("%s: %s", prefix, f->err.message);
    assert_int_equal(s.bytes, 2 * s.count);
    return s.count;
}

TEST(test_listing)
{
    static const char *const keys[] = {"a1", "a2", "a/3", "a/4", "a/b/5", "ab/6", "b 7", "ü/8"};
    struct fixture f;
    bool any = false;

    begin(&f);
    assert_int_equal(list_count(&f, "", 0), 0);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        assert_true(put(&f, keys[i], "xy"));
    drop_file(&f, ".tmp/9", "xy");
    drop_file(&f, "bad\nname9", "xy");
    assert_int_equal(list_count(&f, "", 0), 8);
    assert_int_equal(list_count(&f, "", 3), 3);
    assert_int_equal(list_count(&f, "a", 0), 6);
    assert_int_equal(list_count(&f, "a/", 0), 3);
    assert_int_equal(list_count(&f, "a/b", 0), 1);
    assert_int_equal(list_count(&f, "a/b/", 0), 1);
    assert_int_equal(list_count(&f, "a/b/5", 0), 1);
    assert_int_equal(list_count(&f, "a/b/5x", 0), 0);
    assert_int_equal(list_count(&f, "a/b/5/", 0), 0);
    assert_int_equal(list_count(&f, "none/at/all", 0), 0);
    assert_int_equal(list_count(&f, "ü", 0), 1);
    assert_int_equal(list_count(&f, "a/b/", 1), 1);
    assert_fails(f.err, ERROR_BAD_REQUEST,
                 store_list(f.store, "a/../", soon(), note_any, &any, &f.err));
    assert_false(store_list(f.store, ".tmp/", soon(), note_any, &any, &f.err));
    assert_false(any);
    assert_int_equal(unlink(path_of(&f, ".tmp/9")), 0);
    end(&f);
}

TEST(test_deleting)
{
    struct fixture f;

    begin(&f);
    assert_true(put(&f, "a/b", "x"));
    assert_true(store_delete(f.store, "a/b", soon(), &f.err));
    expect_absent(&f, "a/b");
    assert_true(store_delete(f.store, "a/b", soon(), &f.err));
    assert_true(store_delete(f.store, "never/was", soon(), &f.err));
    assert_true(put(&f, "a/b", "again"));
    expect_text(&f, "a/b", "again");
    end(&f);
}

TEST(test_deadline)
{
    struct fixture f;
    struct store_put p = {.key = "k", .content_type = "a/b", .deadline_ms = clock_monotonic_ms()};
    bool any = false;
    unsigned failures;
    int64_t known_ms;

    begin(&f);
    assert_fails(f.err, ERROR_DEADLINE, store_put(f.store, &p, NULL, &f.err));
    assert_fails(f.err, ERROR_DEADLINE,
                 store_list(f.store, "", p.deadline_ms, note_any, &any, &f.err));
    store_health(f.store, &failures, &known_ms);
    assert_int_equal(failures, 0); /* the caller was late, not the storage */
    assert_int_equal(known_ms, 0);
    expect_absent(&f, "k");
    end(&f);
}

TEST(test_health)
{
    struct fixture f;
    struct rlimit old;
    unsigned failures;
    int64_t known_ms;

    begin(&f);
    store_health(f.store, &failures, &known_ms);
    assert_int_equal(known_ms, 0);
    int64_t asked_ms = clock_monotonic_ms();
    expect_absent(&f, "k"); /* an answer is an answer */
    store_health(f.store, &failures, &known_ms);
    assert_int_equal(failures, 0);
    assert_in_range(known_ms, asked_ms, clock_monotonic_ms());
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    struct rlimit none = {.rlim_cur = 3, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (unsigned i = 1; i <= 3; i++) {
        assert_false(put(&f, "k", "x")); /* EMFILE */
        assert_int_equal(f.err.code, ERROR_UNAVAILABLE);
        store_health(f.store, &failures, &known_ms);
        assert_int_equal(failures, i);
    }
    assert_false(put(&f, "../k", "x")); /* refused before the storage is asked */
    store_health(f.store, &failures, &known_ms);
    assert_int_equal(failures, 3);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_true(put(&f, "k", "x"));
    store_health(f.store, &failures, &known_ms);
    assert_int_equal(failures, 0);
    end(&f);
}

static int set_up(void **state)
{
    char name[TEST_FOLDER_MAX];

    may_mount = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    return test_folder_make(name) != 0 || realpath(name, folder) == NULL;
}

static int tear_down(void **state)
{
    return test_folder_remove(folder);
}

TEST_MAIN(set_up, tear_down)
