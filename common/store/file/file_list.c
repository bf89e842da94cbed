#include "store/file/file.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct listing {
    store_list_fn fn;
    void *ctx;
    int64_t deadline_ms;
    const char *prefix;
    bool stopped;
    char path[STORE_KEY_MAX + 1]; /* of the entry looked at, relative to the root */
};

static void cleanup_closedir(DIR **dir)
{
    if (*dir != NULL)
        closedir(*dir);
}

static bool list_directory(struct listing *l, int fd, size_t len, unsigned depth,
                           struct error *err);

/* The entry whose path is in l->path; what vanishes meanwhile is no error. */
static bool list_entry(struct listing *l, int parent, const char *name, unsigned depth,
                       struct error *err)
{
    const size_t len = strlen(l->path);
    struct error invalid = {0};
    struct stat st;

    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || file_error(err, "examining an entry");
    if (S_ISREG(st.st_mode)) {
        if (len >= strlen(l->prefix) && store_key_check(l->path, &invalid))
            l->stopped = !l->fn(l->ctx, l->path, (uint64_t)st.st_size);
        return true;
    }
    if (!S_ISDIR(st.st_mode) || depth >= FILE_DEPTH_MAX || len + 1 >= sizeof(l->path))
        return true;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ||
               file_error(err, "opening a directory");
    memcpy(l->path + len, "/", 2);
    return list_directory(l, fd, len + 1, depth + 1, err);
}

/* `fd` is taken over. The directory's path, "" or with a '/' at its end, is the first `len` bytes
 * of l->path. `depth` counts the segments of its entries' keys. */
static bool list_directory(struct listing *l, int fd, size_t len, unsigned depth, struct error *err)
{
    CLEANUP(cleanup_closedir) DIR *dir = fdopendir(fd);
    const size_t prefix_len = strlen(l->prefix);

    if (dir == NULL) {
        file_error(err, "opening a directory");
        close(fd);
        return false;
    }
    while (!l->stopped) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL)
            return errno == 0 || file_error(err, "reading a directory");
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            (len == 0 && strcmp(name, file_temporaries) == 0) ||
            len + strlen(name) >= sizeof(l->path))
            continue;
        strcpy(l->path + len, name);
        size_t path_len = len + strlen(name);
        if (strncmp(l->path, l->prefix, path_len < prefix_len ? path_len : prefix_len) != 0)
            continue;
        if (!store_in_time(l->deadline_ms, err) || !list_entry(l, fd, name, depth, err))
            return false;
    }
    return true;
}

bool file_list(void *state, const char *prefix, int64_t deadline_ms, store_list_fn fn, void *ctx,
               struct error *err)
{
    struct listing l = {.fn = fn, .ctx = ctx, .deadline_ms = deadline_ms, .prefix = prefix};
    struct error failure = {0};
    char probe[STORE_KEY_MAX + 2]; /* of a key with that prefix: it starts in the right directory */
    const char *leaf;
    unsigned depth = 1;
    int parent;

    snprintf(probe, sizeof(probe), "%s-", prefix);
    if (!file_open_parent(state, probe, false, &parent, &leaf, &failure)) {
        if (failure.code == ERROR_NOT_FOUND)
            return true;
        *err = failure;
        return false;
    }
    size_t len = (size_t)(leaf - probe);
    memcpy(l.path, probe, len);
    for (size_t i = 0; i < len; i++)
        depth += probe[i] == '/';
    return list_directory(&l, parent, len, depth, err);
}
