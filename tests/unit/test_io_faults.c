/* Calls to the kernel that fail, each once in turn: in the directory store by the linker's --wrap
 * (see the Makefile), in the outbox by SQLite's table of system calls. What was promised is there,
 * an object is there whole or not at all, and nothing is left over. */
#include "base/clock.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "events/outbox/outbox.h"
#include "store/store.h"
#include "test_cases.h"
#include "test_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* ---- faults */

/* SHORT_WRITE: a write does a part of its work, which is no error. */
enum { SHORT_WRITE = -1 };

static struct {
    atomic_int left; /* calls until the one that fails; 0: none */
    int number;      /* errno, or SHORT_WRITE */
    atomic_bool failed;
} faults;

static void arm(int left, int number)
{
    faults.failed = false;
    faults.number = number;
    faults.left = left;
}

/* Whether this call fails; errno is set then. */
static bool due(void)
{
    if (faults.number == SHORT_WRITE || faults.left == 0 || atomic_fetch_sub(&faults.left, 1) != 1)
        return false;
    faults.failed = true;
    errno = faults.number;
    return true;
}

static size_t shortened(size_t len)
{
    if (faults.number != SHORT_WRITE || len < 2 || faults.left == 0 ||
        atomic_fetch_sub(&faults.left, 1) != 1)
        return len;
    faults.failed = true;
    return len / 2;
}

#define WRAP(type, name, params, args)                                                             \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        return due() ? -1 : __real_##name args;                                                    \
    }

WRAP(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode))
WRAP(int, openat, (int dir, const char *path, int flags, mode_t mode), (dir, path, flags, mode))
WRAP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
WRAP(ssize_t, pread, (int fd, void *data, size_t len, off_t at), (fd, data, len, at))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, renameat, (int d1, const char *p1, int d2, const char *p2), (d1, p1, d2, p2))
WRAP(int, linkat, (int d1, const char *p1, int d2, const char *p2, int f), (d1, p1, d2, p2, f))

ssize_t __real_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len);
ssize_t __wrap_write(int fd, const void *data, size_t len)
{
    return due() ? -1 : __real_write(fd, data, shortened(len));
}

static const int numbers[] = {ENOSPC, EIO, EINTR, EDQUOT, EROFS, EMFILE, SHORT_WRITE};

/* ---- the directory store */

static char dir[TEST_FOLDER_MAX];

static int64_t soon(void)
{
    return clock_monotonic_ms() + 60000;
}

static int begin(void **state)
{
    return test_folder_make(dir);
}

static int end(void **state)
{
    arm(0, 0);
    return test_folder_remove(dir);
}

static bool put(struct store *store, const char *text, bool if_absent, struct error *err)
{
    return store_put(store,
                     &(struct store_put){.key = "a/b.jpg",
                                         .data = bytes_from_str(text),
                                         .content_type = "image/jpeg",
                                         .if_absent = if_absent,
                                         .deadline_ms = soon()},
                     NULL, err);
}

/* What is there; "" when nothing is. */
static bool get(struct store *store, char out[64], struct error *err)
{
    CLEANUP(buffer_done) struct buffer data = {0};
    bool ok = store_get(
        store, &(struct store_get){.key = "a/b.jpg", .max_bytes = 63, .deadline_ms = soon()}, &data,
        NULL, err);

    snprintf(out, 64, "%.*s", (int)data.len, (const char *)data.data);
    return ok;
}

static void assert_content(struct store *store, const char *one, const char *other)
{
    struct error err = {0};
    char text[64];

    arm(0, 0);
    if (!get(store, text, &err))
        assert_int_equal(err.code, ERROR_NOT_FOUND);
    if (strcmp(text, one) != 0 && strcmp(text, other) != 0)
        fail_msg("neither \"%s\" nor \"%s\" but \"%s\"", one, other, text);
    assert_int_equal(test_folder_count(dir, "objects/.tmp/*"), 0);
}

static void assert_passing(const struct error *err)
{
    if (!error_is_passing(err->code) || err->message[0] == '\0')
        fail_msg("%s: %s", error_slug(err->code), err->message);
}

/* One put with one fault. False when there were fewer calls. */
static bool put_with_fault(struct store *store, int n, int number, bool if_absent)
{
    const char *before = if_absent ? "" : "old";
    struct error err = {0};

    arm(0, 0);
    assert_true(store_delete(store, "a/b.jpg", soon(), &err));
    if (!if_absent)
        assert_true(put(store, "old", false, &err));
    arm(n, number);
    bool ok = put(store, "new text", if_absent, &err);
    bool failed = faults.failed;
    if (!ok)
        assert_passing(&err);
    assert_content(store, "new text", ok ? "new text" : before);
    assert_true(put(store, "new text", if_absent, &err)); /* the client's next attempt */
    assert_content(store, "new text", "new text");
    return failed;
}

static bool read_with_fault(struct store *store, int n, int number)
{
    struct error err = {0};
    char text[64];

    arm(n, number);
    if (get(store, text, &err))
        assert_string_equal(text, "new text");
    else
        assert_passing(&err);
    return faults.failed;
}

static bool delete_with_fault(struct store *store, int n, int number)
{
    struct error err = {0};

    arm(0, 0);
    assert_true(put(store, "new text", false, &err));
    arm(n, number);
    bool ok = store_delete(store, "a/b.jpg", soon(), &err);
    bool failed = faults.failed;
    if (!ok)
        assert_passing(&err);
    assert_content(store, "", ok ? "" : "new text");
    return failed;
}

static bool see(void *ctx, const char *key, uint64_t size)
{
    ++*(int *)ctx;
    return true;
}

/* A listing that misses objects must not look complete. */
static bool list_with_fault(struct store *store, int n, int number)
{
    struct error err = {0};
    int seen = 0;

    arm(n, number);
    if (store_list(store, "", soon(), see, &seen, &err))
        assert_int_equal(seen, 1);
    else
        assert_passing(&err);
    return faults.failed;
}

TEST_WITH(test_store, begin, end)
{
    CLEANUP_FREE char *url = xasprintf("file:%s/objects", dir);
    struct error err = {0};
    struct store *store = store_open(&(struct store_options){.url = url}, &err);
    int most = 0;

    assert_non_null(store);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        for (int if_absent = 0; if_absent <= 1; if_absent++)
            for (int n = 1; put_with_fault(store, n, numbers[i], if_absent == 1); n++)
                most = n > most ? n : most;
    assert_true(most >= 8);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        assert_true(put(store, "new text", false, &err));
        for (int n = 1; read_with_fault(store, n, numbers[i]); n++)
            ;
        for (int n = 1; list_with_fault(store, n, numbers[i]); n++)
            ;
        for (int n = 1; delete_with_fault(store, n, numbers[i]); n++)
            ;
        arm(0, 0);
    }
    store_free(store);
}

/* ---- the outbox: a page that cannot be read is damage, everything else is not */

static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_open)(const char *, int, int);

static ssize_t faulty_pwrite(int fd, const void *data, size_t len, off_t at)
{
    return due() ? -1 : real_pwrite(fd, data, shortened(len), at);
}

static int faulty_ftruncate(int fd, off_t len)
{
    return due() ? -1 : real_ftruncate(fd, len);
}

static int faulty_open(const char *path, int flags, int mode)
{
    return due() ? -1 : real_open(path, flags, mode);
}

#define REPLACE(vfs, name, real, faulty)                                                           \
    do {                                                                                           \
        sqlite3_syscall_ptr p_ = (vfs)->xGetSystemCall(vfs, name);                                 \
        assert_non_null(p_);                                                                       \
        memcpy(&(real), &p_, sizeof(p_));                                                          \
        assert_int_equal((vfs)->xSetSystemCall(vfs, name, (sqlite3_syscall_ptr)(faulty)), 0);      \
    } while (0)

static void replace_calls(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    bool large = vfs->xGetSystemCall(vfs, "pwrite64") != NULL;

    REPLACE(vfs, large ? "pwrite64" : "pwrite", real_pwrite, faulty_pwrite);
    REPLACE(vfs, "ftruncate", real_ftruncate, faulty_ftruncate);
    REPLACE(vfs, "open", real_open, faulty_open);
}

static struct outbox *open_outbox(void)
{
    CLEANUP_FREE char *path = xasprintf("%s/outbox.db", dir);
    struct error err = {0};
    struct outbox *o =
        outbox_open(&(struct outbox_options){.path = path, .max_pending = 100000}, &err);

    if (o == NULL)
        fail_msg("%s", err.message);
    return o;
}

static bool add(struct outbox *o, int n)
{
    struct error err = {0};
    char event_id[UUID_LEN + 1], id[SHA256_HEX_LEN + 1];

    snprintf(id, sizeof(id), "%064d", n);
    bool ok = outbox_add(o,
                         &(struct event){.gcs_path = "file:///data/x.jpg",
                                         .id = id,
                                         .content_type = "image/jpeg",
                                         .traceparent = ""},
                         soon(), event_id, &err);
    if (!ok)
        assert_passing(&err);
    return ok;
}

/* Opened, one event added, closed. *acknowledged counts what must be there from now on. */
static bool use_with_fault(int n, int number, int *event, int *acknowledged)
{
    arm(n, number);
    CLEANUP_FREE char *path = xasprintf("%s/outbox.db", dir);
    struct error err = {0};
    struct outbox *o =
        outbox_open(&(struct outbox_options){.path = path, .max_pending = 100000}, &err);
    if (o != NULL && add(o, ++*event))
        ++*acknowledged;
    outbox_close(o);
    bool failed = faults.failed;
    arm(0, 0);
    o = open_outbox();
    /* one that was refused may be there all the same, as when an answer is lost */
    assert_in_range(outbox_pending(o), *acknowledged, *event);
    outbox_close(o);
    if (test_folder_count(dir, "outbox.db.corrupt*") > 0)
        fail_msg("call %d failing with %d is taken for damage", n, number);
    return failed;
}

TEST_WITH(test_outbox, begin, end)
{
    int event = 0, acknowledged = 0, most = 0;

    replace_calls();
    /* one that was never completed is found empty: reconciling is asked for, nothing set aside */
    outbox_close(open_outbox());
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        for (int n = 1; use_with_fault(n, numbers[i], &event, &acknowledged) && n < 200; n++)
            most = n > most ? n : most;
    assert_true(most > 10);
    assert_true(acknowledged > 0);
}

TEST_MAIN(NULL, NULL)
