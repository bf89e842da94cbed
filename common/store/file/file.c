/* A directory as a bucket. Objects are its regular files; symbolic links, devices and so on do not
 * exist for it. A key with an empty segment, one over 255 bytes, or more than FILE_DEPTH_MAX
 * segments cannot be held; keys below ".tmp" are ours. */
#include "store/file/file.h"

#include "base/clock.h"
#include "base/directory.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

enum { STALE_S = 3600 };

const char file_temporaries[] = ".tmp";

bool file_error(struct error *err, const char *operation)
{
    int number = errno;

    if (number == ENAMETOOLONG)
        return error_set(err, ERROR_BAD_REQUEST, "a segment of the object key is too long");
    return error_set(err, ERROR_UNAVAILABLE, "%s: %s", operation, strerrordesc_np(number));
}

static bool no_object(struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "no such object");
}

/* The directory `name` in `parent`, made if missing. */
static int open_directory(int parent, const char *name, bool create)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent, name, flags);

    if (fd >= 0 || errno != ENOENT || !create)
        return fd;
    if (mkdirat(parent, name, 0777) != 0 && errno != EEXIST)
        return -1;
    return openat(parent, name, flags);
}

/* Replace *dir by its subdirectory. When creating, *dir is synced even if the name was there
 * already: whoever made it may not have done so yet. */
static bool descend(int *dir, const char *name, bool create, struct error *err)
{
    int next = open_directory(*dir, name, create);

    bool blocked = next < 0 && (errno == ENOTDIR || errno == ELOOP);
    if (blocked && create)
        return error_set(err, ERROR_BAD_REQUEST, "the key goes on below another object's");
    if (blocked || (next < 0 && errno == ENOENT && !create))
        return no_object(err);
    if (next < 0)
        return file_error(err, "opening a directory");
    if (create && fsync(*dir) != 0) {
        file_error(err, "syncing a directory");
        close(next);
        return false;
    }
    close(*dir);
    *dir = next;
    return true;
}

static bool check_segments(const char *key, struct error *err)
{
    size_t depth = 0;

    for (const char *segment = key;; segment += strcspn(segment, "/") + 1) {
        size_t len = strcspn(segment, "/");
        if (len == 0)
            return error_set(err, ERROR_BAD_REQUEST,
                             "an empty segment in the object key: a directory cannot hold it");
        if (len > NAME_MAX)
            return error_set(err, ERROR_BAD_REQUEST, "a segment of the object key is over %d bytes",
                             NAME_MAX);
        if (++depth > FILE_DEPTH_MAX)
            return error_set(err, ERROR_BAD_REQUEST, "more than %d segments in the object key",
                             FILE_DEPTH_MAX);
        if (segment[len] == '\0')
            break;
    }
    return strcspn(key, "/") != strlen(file_temporaries) ||
           !string_starts_with(key, file_temporaries) ||
           error_set(err, ERROR_BAD_REQUEST, "the object key is reserved");
}

static bool open_root(const struct file_store *fs, int *ret, struct error *err)
{
    *ret = open(fs->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *ret >= 0 || file_error(err, "opening the storage directory");
}

bool file_open_temporaries(const struct file_store *fs, int *ret, struct error *err)
{
    CLEANUP_CLOSE int root = -1;

    if (!open_root(fs, &root, err))
        return false;
    *ret = open_directory(root, file_temporaries, true);
    return *ret >= 0 || file_error(err, "opening the directory of temporary files");
}

bool file_open_parent(const struct file_store *fs, const char *key, bool create, int *parent,
                      const char **leaf, struct error *err)
{
    CLEANUP_CLOSE int dir = -1;
    char segment[NAME_MAX + 1];

    if (!check_segments(key, err) || !open_root(fs, &dir, err))
        return false;
    for (size_t len; key[len = strcspn(key, "/")] == '/'; key += len + 1) {
        snprintf(segment, sizeof(segment), "%.*s", (int)len, key);
        if (!descend(&dir, segment, create, err))
            return false;
    }
    *leaf = key;
    *parent = dir;
    dir = -1;
    return true;
}

static bool open_object(const struct file_store *fs, const char *key, int *fd, struct stat *st,
                        struct error *err)
{
    CLEANUP_CLOSE int parent = -1;
    const char *leaf;

    if (!file_open_parent(fs, key, false, &parent, &leaf, err))
        return false;
    /* O_NONBLOCK: a pipe would wait for its writer */
    *fd = openat(parent, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (*fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
        return no_object(err);
    if (*fd < 0)
        return file_error(err, "opening");
    if (fstat(*fd, st) != 0)
        return file_error(err, "examining");
    return S_ISREG(st->st_mode) || no_object(err);
}

static void describe(const struct stat *st, struct store_info *info)
{
    int64_t mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;

    info->size = (uint64_t)st->st_size;
    info->modified_ms = mtime_ns / 1000000;
    snprintf(info->etag, sizeof(info->etag), "%llx-%llx-%llx", (unsigned long long)st->st_ino,
             (unsigned long long)st->st_size, (unsigned long long)mtime_ns);
}

static bool file_head(void *state, const char *key, int64_t deadline_ms, struct store_info *info,
                      struct error *err)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st = {0};

    (void)deadline_ms;
    if (!open_object(state, key, &fd, &st, err))
        return false;
    describe(&st, info);
    return true;
}

static bool read_range(int fd, uint64_t offset, size_t len, struct buffer *data,
                       int64_t deadline_ms, struct error *err)
{
    while (len > 0) {
        if (!store_in_time(deadline_ms, err))
            return false;
        ssize_t n =
            pread(fd, data->data + data->len, len < FILE_CHUNK ? len : FILE_CHUNK, (off_t)offset);
        if (n == 0)
            return error_set(err, ERROR_UNAVAILABLE, "the object shrank while it was read");
        if (n < 0 && errno != EINTR)
            return file_error(err, "reading");
        if (n > 0) {
            data->len += (size_t)n;
            offset += (uint64_t)n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool file_get(void *state, const struct store_get *get, struct buffer *data,
                     struct store_info *info, struct error *err)
{
    CLEANUP_CLOSE int fd = -1;
    struct stat st = {0};

    if (!open_object(state, get->key, &fd, &st, err))
        return false;
    describe(&st, info);
    if (get->offset > 0 && get->offset >= info->size)
        return error_set(err, ERROR_RANGE, "the object has %llu bytes",
                         (unsigned long long)info->size);
    uint64_t len = info->size - get->offset;
    if (get->length > 0 && get->length < len)
        len = get->length;
    if (len > get->max_bytes)
        return error_set(err, ERROR_TOO_LARGE, "the object has more than %zu bytes",
                         get->max_bytes);
    return buffer_reserve(data, (size_t)len, err) &&
           read_range(fd, get->offset, (size_t)len, data, get->deadline_ms, err);
}

static bool file_remove(void *state, const char *key, int64_t deadline_ms, struct error *err)
{
    CLEANUP_CLOSE int parent = -1;
    struct error failure = {0};
    const char *leaf;
    struct stat st = {0};

    (void)deadline_ms;
    if (!file_open_parent(state, key, false, &parent, &leaf, &failure)) {
        if (failure.code == ERROR_NOT_FOUND)
            return true;
        *err = failure;
        return false;
    }
    if (fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
        return true;
    if (unlinkat(parent, leaf, 0) != 0 && errno != ENOENT)
        return file_error(err, "deleting");
    return fsync(parent) == 0 || file_error(err, "syncing a directory");
}

static void file_free(void *state)
{
    struct file_store *fs = state;

    free(fs->path);
    free(fs);
}

/* What a killed process left behind; a put takes no hour. */
static void remove_stale(int temporaries)
{
    struct stat st = {0};
    DIR *dir = fdopendir(fcntl(temporaries, F_DUPFD_CLOEXEC, 0));

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        if (fstatat(temporaries, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode) && st.st_mtime < clock_wall_ms() / 1000 - STALE_S)
            unlinkat(temporaries, entry->d_name, 0);
    if (dir != NULL)
        closedir(dir);
}

void *store_file_open(const char *path, char **root, struct error *err)
{
    struct file_store *fs = xcalloc(1, sizeof(*fs));
    CLEANUP_CLOSE int temporaries = -1;

    bool ok = directory_make(path) && (fs->path = realpath(path, NULL)) != NULL;
    if (!ok)
        file_error(err, "making it");
    if (!ok || !file_open_temporaries(fs, &temporaries, err)) {
        err->code = ERROR_CONFIG;
        error_wrap(err, "cannot use the storage directory %s", path);
        file_free(fs);
        return NULL;
    }
    remove_stale(temporaries);
    *root = xstrdup(strcmp(fs->path, "/") == 0 ? "" : fs->path);
    return fs;
}

const struct store_driver store_file_driver = {
    .put = file_put,
    .get = file_get,
    .head = file_head,
    .remove = file_remove,
    .list = file_list,
    .free = file_free,
};
