/* A damaged outbox: a good one's files, with the input's changes. The first byte says which of -wal
 * and -shm are there; then changes of four bytes each: file and kind, offset (two bytes), value. */
#include "events/outbox/outbox.h"
#include "base/clock.h"
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>

enum { ROWS = 5, FILE_BYTES = 1 << 18, CHANGES_MAX = 32 };
enum { DB, WAL, SHM, FILES };

static const char *const suffixes[FILES] = {"", "-wal", "-shm"};
static char folder[64], path[80];
static struct {
    uint8_t data[FILE_BYTES];
    size_t len;
} good[FILES], bad[FILES];

static void name_of(char out[128], int file)
{
    snprintf(out, 128, "%s%s", path, suffixes[file]);
}

static void remove_files(void)
{
    DIR *dir = opendir(folder);

    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.')
            unlinkat(dirfd(dir), e->d_name, 0);
    if (dir != NULL)
        closedir(dir);
}

static void remove_folder(void)
{
    remove_files();
    rmdir(folder);
}

static void copy_good(void)
{
    char name[128];

    for (int i = 0; i < FILES; i++) {
        name_of(name, i);
        CLEANUP_FCLOSE FILE *f = fopen(name, "re");
        FUZZ_CHECK(f != NULL);
        good[i].len = fread(good[i].data, 1, FILE_BYTES, f);
        FUZZ_CHECK(good[i].len < FILE_BYTES);
    }
}

static bool add_event(struct outbox *o, int n, struct error *err)
{
    char id[SHA256_HEX_LEN + 1], uri[32], event_id[UUID_LEN + 1];

    memset(id, 'a' + n, SHA256_HEX_LEN);
    id[SHA256_HEX_LEN] = '\0';
    snprintf(uri, sizeof(uri), "s3://b/%d", n);
    const struct event event = {uri, id, "image/jpeg", "", NULL, NULL};
    return outbox_add(o, &event, clock_monotonic_ms() + 5000, event_id, err);
}

static struct outbox *open_outbox(struct error *err)
{
    return outbox_open(&(struct outbox_options){.path = path, .max_pending = 1000}, err);
}

/* Memory, if it may hold files: an fsync is then free. */
static void start(void)
{
    struct error err = {0};

    snprintf(folder, sizeof(folder), "/dev/shm/fuzz_outbox.XXXXXX");
    if (mkdtemp(folder) == NULL) {
        snprintf(folder, sizeof(folder), "/tmp/fuzz_outbox.XXXXXX");
        FUZZ_CHECK(mkdtemp(folder) != NULL);
    }
    snprintf(path, sizeof(path), "%s/o.db", folder);
    struct outbox *o = open_outbox(&err);
    FUZZ_CHECK(o != NULL);
    for (int i = 0; i < ROWS; i++)
        FUZZ_CHECK(add_event(o, i, &err));
    copy_good();
    outbox_close(o);
    atexit(remove_folder);
}

/* Returns which files differ from the good ones, as bits. */
static unsigned change(struct bytes in)
{
    unsigned changed = 0;

    for (int n = 0; n < CHANGES_MAX && in.len >= 4; n++) {
        uint8_t what = fuzz_byte(&in);
        size_t at = fuzz_byte(&in);
        at = at << 8 | fuzz_byte(&in);
        uint8_t value = fuzz_byte(&in);
        int file = what % FILES;
        if (bad[file].len == 0)
            continue;
        at %= bad[file].len;
        changed |= 1U << file;
        if ((what & 0xf0) == 0xf0)
            bad[file].len = at; /* cut off */
        else if ((what & 0xf0) == 0xe0)
            memset(bad[file].data + at, value, bad[file].len - at < 512 ? bad[file].len - at : 512);
        else
            bad[file].data[at] ^= value;
    }
    return changed;
}

static void write_files(unsigned present)
{
    char name[128];

    remove_files();
    for (int i = 0; i < FILES; i++) {
        if ((present >> i & 1) == 0)
            continue;
        name_of(name, i);
        CLEANUP_FCLOSE FILE *f = fopen(name, "we");
        FUZZ_CHECK(f != NULL && fwrite(bad[i].data, 1, bad[i].len, f) == bad[i].len);
    }
    name_of(name, DB);
    strcat(name, ".lock");
    CLEANUP_CLOSE int fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0);
}

/* What is there can be read, and there is room for more. */
static void check_open(struct outbox *o)
{
    struct error err = {0};
    struct outbox_row row;

    FUZZ_CHECK(outbox_pending(o) >= 0 && outbox_dead(o) >= 0);
    FUZZ_CHECK(add_event(o, 20, &err));
    for (int i = 0; i < 2 * ROWS && outbox_take(o, clock_monotonic_ms(), &row); i++) {
        FUZZ_CHECK(row.gcs_path != NULL && row.content_type != NULL);
        FUZZ_CHECK(strnlen(row.event_id, sizeof(row.event_id)) <= UUID_LEN);
        FUZZ_CHECK(strnlen(row.id, sizeof(row.id)) <= SHA256_HEX_LEN);
        if (i % 2 == 0)
            outbox_delivered(o, &row);
        else
            outbox_put_back(o, &row);
        outbox_row_done(&row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    struct error err = {0};

    if (*path == '\0')
        start();
    unsigned present = 1U | fuzz_byte(&in);
    memcpy(bad, good, sizeof(bad));
    unsigned changed = change(in);
    write_files(present);
    struct outbox *o = open_outbox(&err);
    if (o == NULL) {
        FUZZ_CHECK_ERROR(&err, ERROR_CONFIG);
        return 0;
    }
    /* the -shm can be made again; a -wal is read up to its first bad checksum */
    if ((present & 3) == 3 && (changed & ~(1U << SHM)) == 0)
        FUZZ_CHECK(outbox_pending(o) == ROWS);
    if ((present & 3) == 1 && (present & 4) != 0)
        FUZZ_CHECK(outbox_reconcile_needed(o));
    check_open(o);
    outbox_close(o);
    return 0;
}
