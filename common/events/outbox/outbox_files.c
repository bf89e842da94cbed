#include "base/clock.h"
#include "base/strings.h"
#include "events/outbox/outbox_internal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

enum { LOCK_POLL_MS = 50 };

/* "<path>-wal" is at most this long; outbox_open refuses longer paths. */
static void with_suffix(char *out, size_t size, const char *path, const char *suffix)
{
    snprintf(out, size, "%s%s", path, suffix);
}

static struct outbox_file file_stat(const char *path, const char *suffix)
{
    char name[4096];
    struct stat st;

    with_suffix(name, sizeof(name), path, suffix);
    if (stat(name, &st) != 0)
        return (struct outbox_file){0};
    return (struct outbox_file){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

struct outbox_files outbox_files_stat(const char *path)
{
    return (struct outbox_files){
        .db = file_stat(path, ""),
        .wal = file_stat(path, "-wal"),
        .shm = file_stat(path, "-shm"),
    };
}

static bool file_replaced(const struct outbox_file *a, const struct outbox_file *b)
{
    return a->ino != b->ino || a->dev != b->dev;
}

static bool file_written(const struct outbox_file *a, const struct outbox_file *b)
{
    return a->size != b->size || a->mtime.tv_sec != b->mtime.tv_sec ||
           a->mtime.tv_nsec != b->mtime.tv_nsec;
}

bool outbox_files_replaced(const struct outbox_files *before, const struct outbox_files *now)
{
    return file_replaced(&before->db, &now->db) || file_replaced(&before->wal, &now->wal) ||
           file_replaced(&before->shm, &now->shm);
}

bool outbox_files_written(const struct outbox_files *before, const struct outbox_files *now)
{
    return file_written(&before->db, &now->db) || file_written(&before->wal, &now->wal);
}

/* The WAL format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log and
 * https://www.sqlite.org/walformat.html */
enum {
    WAL_HEADER = 32,
    WAL_SALTS = 16, /* where in the header */
    SALTS = 8,
    WAL_FRAME_HEADER = 24,
    WAL_FRAME = WAL_FRAME_HEADER + OUTBOX_PAGE_SIZE,
    WAL_FORMAT = 3007000,
    SHM_HEADER = 48,
    SHM_IS_INIT = 12,
    SHM_FRAMES = 16,
    SHM_SALTS = 32,
};

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void wal_checksum(bool big, const uint8_t *data, size_t len, uint32_t sum[2])
{
    for (size_t i = 0; i + 8 <= len; i += 8) {
        uint32_t word[2];

        memcpy(word, data + i, sizeof(word));
        sum[0] += (big ? be32toh(word[0]) : le32toh(word[0])) + sum[1];
        sum[1] += (big ? be32toh(word[1]) : le32toh(word[1])) + sum[0];
    }
}

static bool sum_is(const uint32_t sum[2], const uint8_t *stored)
{
    return sum[0] == big_endian(stored) && sum[1] == big_endian(stored + 4);
}

/* The checksum of a good header, which the frames' continue. */
static bool wal_header(const uint8_t header[WAL_HEADER], uint32_t sum[2])
{
    if ((big_endian(header) & ~1U) != 0x377f0682 || big_endian(header + 4) != WAL_FORMAT ||
        big_endian(header + 8) != OUTBOX_PAGE_SIZE)
        return false;
    wal_checksum(big_endian(header) & 1U, header, 24, sum);
    return sum_is(sum, header + 24);
}

/* The number of frames up to the last commit that SQLite would find; -1: the header is bad. */
static int64_t wal_frames(FILE *f)
{
    uint8_t header[WAL_HEADER];
    uint8_t frame[WAL_FRAME];
    uint32_t sum[2] = {0, 0};
    int64_t frames = 0;
    int64_t committed = 0;

    size_t got = fread(header, 1, sizeof(header), f);
    if (got == 0)
        return 0;
    if (got < sizeof(header) || !wal_header(header, sum))
        return -1;
    while (fread(frame, 1, sizeof(frame), f) == sizeof(frame)) {
        bool big = (big_endian(header) & 1U) != 0;

        if (memcmp(frame + 8, header + WAL_SALTS, SALTS) != 0) /* of an older generation */
            break;
        wal_checksum(big, frame, 8, sum);
        wal_checksum(big, frame + WAL_FRAME_HEADER, OUTBOX_PAGE_SIZE, sum);
        if (!sum_is(sum, frame + 16))
            break;
        frames++;
        if (big_endian(frame + 4) != 0)
            committed = frames;
    }
    return committed;
}

enum outbox_verdict outbox_wal_check(const char *path, uint32_t min_frames, struct error *err)
{
    char name[4096];

    with_suffix(name, sizeof(name), path, "-wal");
    CLEANUP_FCLOSE FILE *f = fopen(name, "rbe");
    if (f == NULL && errno != ENOENT) { /* no memory, no descriptors: it may well be good */
        error_set(err, ERROR_UNAVAILABLE, "outbox: open %s: %s", name, strerror(errno));
        return OUTBOX_FAILED;
    }
    bool intact = f == NULL ? min_frames == 0 : wal_frames(f) >= (int64_t)min_frames;
    return intact ? OUTBOX_OK : OUTBOX_DAMAGED;
}

/* Whether the -wal is of another generation than the -shm header says: after a power cut the latter
 * may be old. */
static bool wal_has_other_salts(const char *path, const uint8_t salts[SALTS])
{
    char name[4096];
    uint8_t header[WAL_HEADER];
    uint32_t sum[2] = {0, 0};

    with_suffix(name, sizeof(name), path, "-wal");
    CLEANUP_FCLOSE FILE *f = fopen(name, "rbe");
    return f != NULL && fread(header, 1, sizeof(header), f) == sizeof(header) &&
           wal_header(header, sum) && memcmp(header + WAL_SALTS, salts, SALTS) != 0;
}

uint32_t outbox_shm_frames(const char *path)
{
    char name[4096];
    uint8_t copies[2][SHM_HEADER];
    uint32_t format;
    uint32_t frames;

    with_suffix(name, sizeof(name), path, "-shm");
    CLEANUP_FCLOSE FILE *f = fopen(name, "rbe");
    /* Two copies: they differ when the writer died between them, and then say nothing. */
    if (f == NULL || fread(copies, SHM_HEADER, 2, f) != 2 ||
        memcmp(copies[0], copies[1], SHM_HEADER) != 0 ||
        wal_has_other_salts(path, copies[0] + SHM_SALTS))
        return 0;
    memcpy(&format, copies[0], sizeof(format)); /* in the machine's own byte order */
    memcpy(&frames, copies[0] + SHM_FRAMES, sizeof(frames));
    return format == WAL_FORMAT && copies[0][SHM_IS_INIT] == 1 ? frames : 0;
}

bool outbox_sync_directory(const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *dir =
        slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    CLEANUP_CLOSE int fd = dir != NULL ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (fd < 0 || fsync(fd) != 0)
        return error_set(err, ERROR_UNAVAILABLE, "directory of %s: %s", path, strerror(errno));
    return true;
}

bool outbox_make_parents(const char *path, struct error *err)
{
    CLEANUP_FREE char *dir = strdup(path);

    if (dir == NULL)
        return error_oom(err);
    for (char *p = dir + 1; *dir != '\0' && (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        if (mkdir(dir, 0777) == 0) {
            if (!outbox_sync_directory(dir, err))
                return false;
        } else if (errno != EEXIST) {
            return error_set(err, ERROR_CONFIG, "cannot make directory %s: %s", dir,
                             strerror(errno));
        }
        *p = '/';
    }
    return true;
}

int outbox_lock(const char *path, int64_t wait_ms, bool *used_before, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + wait_ms;
    const struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000L};
    char name[4096];

    with_suffix(name, sizeof(name), path, ".lock");
    *used_before = access(name, F_OK) == 0;
    CLEANUP_CLOSE int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        error_set(err, ERROR_CONFIG, "cannot open %s: %s", name, strerror(errno));
        return -1;
    }
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            error_set(err, ERROR_CONFIG, "cannot lock %s: %s", name, strerror(errno));
            return -1;
        }
        if (clock_left_ms(deadline_ms) == 0) {
            error_set(err, ERROR_CONFIG, "another process holds %s: one outbox serves one service",
                      name);
            return -1;
        }
        nanosleep(&pause, NULL);
    }
    int held = fd;
    fd = -1;
    return held;
}
