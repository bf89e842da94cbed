#include "base/strings.h"
#include "store/file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A temporary, gone when the scope ends. */
struct temporary {
    int dir;
    int fd;
    char name[UUID_LEN + 1]; /* "" when there is nothing to remove */
};

static void temporary_done(struct temporary *t)
{
    if (t->name[0] != '\0')
        unlinkat(t->dir, t->name, 0);
    if (t->fd >= 0)
        close(t->fd);
    if (t->dir >= 0)
        close(t->dir);
}

static bool temporary_open(const struct file_store *fs, struct temporary *t, struct error *err)
{
    char name[UUID_LEN + 1];

    if (!file_open_temporaries(fs, &t->dir, err))
        return false;
    if (!string_uuid(name))
        return error_set(err, ERROR_UNAVAILABLE, "no randomness");
    t->fd = openat(t->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (t->fd < 0)
        return file_error(err, "creating a temporary file");
    memcpy(t->name, name, sizeof(name));
    return true;
}

static bool write_all(int fd, struct bytes data, int64_t deadline_ms, struct error *err)
{
    while (data.len > 0) {
        if (!store_in_time(deadline_ms, err))
            return false;
        ssize_t n = write(fd, data.data, data.len < FILE_CHUNK ? data.len : FILE_CHUNK);
        if (n < 0 && errno != EINTR)
            return file_error(err, "writing");
        if (n > 0)
            data = bytes_of(data.data + n, data.len - (size_t)n);
    }
    return true;
}

static bool is_object(int parent, const char *leaf)
{
    struct stat st;

    return fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* Give the complete, durable temporary its name. */
static bool publish(struct temporary *t, int parent, const char *leaf, bool if_absent,
                    bool *existed, struct error *err)
{
    if (!if_absent) {
        if (renameat(t->dir, t->name, parent, leaf) == 0) {
            t->name[0] = '\0';
            return true;
        }
        if (errno == EISDIR)
            return error_set(err, ERROR_BAD_REQUEST, "other objects' keys go on below this key");
        return file_error(err, "renaming");
    }
    struct stat st;
    int looked;

    do { /* again if it is deleted between the two */
        if (linkat(t->dir, t->name, parent, leaf, 0) == 0)
            return true;
        if (errno != EEXIST)
            return file_error(err, "linking");
        looked = fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW);
    } while (looked != 0 && errno == ENOENT);
    if (looked != 0)
        return file_error(err, "examining");
    *existed = S_ISREG(st.st_mode);
    return *existed ||
           error_set(err, ERROR_BAD_REQUEST, "a directory or special file has this key's name");
}

/* Also when the object existed: whoever put it may still be syncing. */
static bool sync_directory(int fd, struct error *err)
{
    return fsync(fd) == 0 || file_error(err, "syncing a directory");
}

bool file_put(void *state, const struct store_put *put, bool *existed, struct error *err)
{
    const struct file_store *fs = state;
    CLEANUP(temporary_done) struct temporary t = {.dir = -1, .fd = -1};
    CLEANUP_CLOSE int parent = -1;
    const char *leaf;

    if (!file_open_parent(fs, put->key, true, &parent, &leaf, err))
        return false;
    if (put->if_absent && is_object(parent, leaf)) { /* a repeated upload: nothing to write */
        *existed = true;
        return sync_directory(parent, err);
    }
    if (!temporary_open(fs, &t, err) || !write_all(t.fd, put->data, put->deadline_ms, err) ||
        !store_in_time(put->deadline_ms, err))
        return false;
    if (fsync(t.fd) != 0)
        return file_error(err, "syncing a file");
    if (!store_in_time(put->deadline_ms, err) ||
        !publish(&t, parent, leaf, put->if_absent, existed, err))
        return false;
    return sync_directory(parent, err);
}
