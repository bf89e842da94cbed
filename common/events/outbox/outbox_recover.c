#include "base/clock.h"
#include "events/outbox/outbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { NAME_MAX_LEN = 4096, COPY_CHUNK = 65536 };
/* of ALL_COLUMNS: from EVENT_ID to TRACEPARENT they are texts of ours */
enum { EVENT_ID = 1, ID, GCS_PATH, CONTENT_TYPE, TRACEPARENT, COLUMNS = 12 };

#define ALL_COLUMNS                                                                                \
    "seq, event_id, id, gcs_path, content_type, traceparent, created_ms, attempts, not_before_ms," \
    " state, last_error, died_ms"

struct names {
    char fresh[NAME_MAX_LEN];   /* the database being built */
    char salvage[NAME_MAX_LEN]; /* a copy of the damaged one with a good first page */
    char aside[NAME_MAX_LEN];
};

static void path_join(char out[NAME_MAX_LEN], const char *path, const char *suffix)
{
    int len = snprintf(out, NAME_MAX_LEN, "%s%s", path, suffix);

    if (len < 0 || len >= NAME_MAX_LEN) /* outbox_open refuses paths this long */
        *out = '\0';
}

static void unlink_database(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char name[NAME_MAX_LEN];

    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        path_join(name, path, suffixes[i]);
        unlink(name);
    }
}

/* `<path>.corrupt-20260102T030405Z`, with a number if that exists. */
static void aside_name(const char *path, char out[NAME_MAX_LEN])
{
    time_t now = (time_t)(clock_wall_ms() / 1000);
    struct tm tm;
    char stamp[32];

    gmtime_r(&now, &tm);
    strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
    snprintf(out, NAME_MAX_LEN, "%s.corrupt-%s", path, stamp);
    for (int i = 2; access(out, F_OK) == 0; i++)
        snprintf(out, NAME_MAX_LEN, "%s.corrupt-%s-%d", path, stamp, i);
}

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < ' ' || text.data[i] == 0x7f)
            return false;
    }
    return string_is_utf8(text);
}

static struct bytes text_of(sqlite3_stmt *row, int column)
{
    const void *data = sqlite3_column_blob(row, column);

    return bytes_of(data, (size_t)sqlite3_column_bytes(row, column));
}

/* SQLite takes any bytes for text: garbage that begins within a row leaves one that can be read. */
static bool is_plausible(sqlite3_stmt *row)
{
    struct bytes id = text_of(row, ID);
    struct bytes gcs_path = text_of(row, GCS_PATH);

    for (int i = EVENT_ID; i <= TRACEPARENT; i++)
        if (sqlite3_column_type(row, i) != SQLITE_TEXT || !is_printable(text_of(row, i)))
            return false;
    return id.len > 0 && memmem(gcs_path.data, gcs_path.len, id.data, id.len) != NULL;
}

/* One row into the new file, under its own number or, if that is taken, under the next. One that is
 * damaged is left out: reconciling finds its image. */
static bool insert_row(sqlite3 *to, sqlite3_stmt *insert, sqlite3_stmt *row)
{
    if (!is_plausible(row))
        return true;
    for (int i = 0; i < COLUMNS; i++)
        if (sqlite3_bind_value(insert, i + 1, sqlite3_column_value(row, i)) != SQLITE_OK)
            return false;
    int code = sqlite3_step(insert);
    sqlite3_reset(insert);
    if (code == SQLITE_DONE && sqlite3_changes(to) == 0) {
        sqlite3_bind_null(insert, 1);
        code = sqlite3_step(insert);
        sqlite3_reset(insert);
    }
    /* one that breaks a constraint is damaged, too */
    return code == SQLITE_DONE || (code & 0xff) == SQLITE_CONSTRAINT;
}

enum copied { COPIED_NOTHING, COPIED_SOME, COPIED_ALL, COPY_FAILED };

/* Copy the rows that can be read in this order, up to the first that cannot. COPY_FAILED if the new
 * file cannot be written. */
static enum copied copy_in_order(sqlite3 *from, sqlite3 *to, const char *select)
{
    static const char insert_sql[] = "INSERT OR IGNORE INTO event (" ALL_COLUMNS ")"
                                     " VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)";
    sqlite3_stmt *row = NULL;
    sqlite3_stmt *insert = NULL;
    enum copied ret = COPIED_NOTHING;
    int code = SQLITE_ERROR;

    if (sqlite3_prepare_v2(to, insert_sql, -1, &insert, NULL) != SQLITE_OK)
        return COPY_FAILED;
    if (sqlite3_prepare_v2(from, select, -1, &row, NULL) == SQLITE_OK)
        while (ret != COPY_FAILED && (code = sqlite3_step(row)) == SQLITE_ROW)
            ret = insert_row(to, insert, row) ? COPIED_SOME : COPY_FAILED;
    if (sqlite3_errcode(from) == SQLITE_NOMEM) /* what was not read may be readable */
        ret = COPY_FAILED;
    sqlite3_finalize(row);
    sqlite3_finalize(insert);
    return code == SQLITE_DONE ? COPIED_ALL : ret;
}

/* Forward to the first unreadable page, then backward to the last one. What lies between is found
 * by reconciling. NOT INDEXED: by the table, since an index may be damaged on its own. */
static enum copied copy_rows(sqlite3 *from, sqlite3 *to)
{
    enum copied ret =
        copy_in_order(from, to, "SELECT " ALL_COLUMNS " FROM event NOT INDEXED ORDER BY seq");

    if (ret == COPIED_ALL || ret == COPY_FAILED)
        return ret;
    enum copied backward =
        copy_in_order(from, to, "SELECT " ALL_COLUMNS " FROM event NOT INDEXED ORDER BY seq DESC");
    return backward == COPIED_NOTHING ? ret : backward;
}

static enum copied copy_rows_of_file(const char *path, sqlite3 *to)
{
    struct outbox_db from = {0};
    struct error why;

    if (access(path, F_OK) != 0)
        return COPIED_NOTHING;
    if (!outbox_db_connect(path, 0, OUTBOX_BUSY_MS, &from.handle, &why))
        return why.code == ERROR_OVERLOADED ? COPY_FAILED : COPIED_NOTHING;
    enum copied ret = copy_rows(from.handle, to);
    outbox_db_abandon(&from);
    return ret;
}

/* COPY_FAILED when it may succeed another time: no memory, no descriptor, a full disk. */
static enum copied copy_file(const char *from, const char *to)
{
    char chunk[COPY_CHUNK];
    CLEANUP_FCLOSE FILE *in = fopen(from, "rbe");
    if (in == NULL)
        return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? COPY_FAILED : COPIED_NOTHING;
    CLEANUP_FCLOSE FILE *out = fopen(to, "wbe");
    size_t n;

    if (out == NULL)
        return COPY_FAILED;
    while ((n = fread(chunk, 1, sizeof(chunk), in)) > 0)
        if (fwrite(chunk, 1, n, out) != n)
            return COPY_FAILED;
    if (ferror(in) != 0)
        return COPIED_NOTHING;
    return fflush(out) == 0 ? COPIED_ALL : COPY_FAILED;
}

/* The first page names the tables' root pages. Every outbox is made by the same statements, so a
 * fresh one's first page fits an old file whose own is unreadable. (It holds, at 24 and 92, two
 * counters: when they differ, the size in the header is not believed.) */
static enum copied copy_rows_past_header(const char *path, const struct names *names, sqlite3 *to)
{
    uint8_t page[OUTBOX_PAGE_SIZE];
    char wal[NAME_MAX_LEN];
    char wal_copy[NAME_MAX_LEN];
    CLEANUP_FCLOSE FILE *fresh = fopen(names->fresh, "rbe");

    path_join(wal, path, "-wal");
    path_join(wal_copy, names->salvage, "-wal");
    if (fresh == NULL || fread(page, 1, sizeof(page), fresh) != sizeof(page))
        return COPY_FAILED;
    enum copied ret = copy_file(path, names->salvage);
    if (ret == COPIED_ALL && copy_file(wal, wal_copy) == COPY_FAILED)
        ret = COPY_FAILED;
    if (ret == COPIED_ALL) {
        page[27] ^= 1;
        CLEANUP_CLOSE int fd = open(names->salvage, O_WRONLY | O_CLOEXEC);
        ret = fd >= 0 && pwrite(fd, page, sizeof(page), 0) == (ssize_t)sizeof(page)
                  ? copy_rows_of_file(names->salvage, to)
                  : COPY_FAILED;
    }
    unlink_database(names->salvage);
    return ret;
}

/* A file that lost its -wal still has rows that were delivered since: it is read only when the
 * better source could not be. */
static bool salvage(const char *path, const struct names *names, sqlite3 *live, sqlite3 *to,
                    struct error *err)
{
    if (!outbox_db_exec(to, "BEGIN IMMEDIATE", err))
        return false;
    enum copied copied = live == NULL ? COPIED_NOTHING : copy_rows(live, to);
    if (copied == COPIED_NOTHING || copied == COPIED_SOME)
        copied = copy_rows_of_file(path, to);
    if (copied == COPIED_NOTHING)
        copied = copy_rows_past_header(path, names, to);
    if (copied == COPY_FAILED)
        return sqlite3_errcode(to) == SQLITE_OK ? error_oom(err)
                                                : outbox_db_error(to, "salvage", err);
    return outbox_db_exec(to,
                          "UPDATE meta SET value = abs(random() / 2) + 1 WHERE key = 'reconcile';"
                          "COMMIT",
                          err);
}

static bool build(const char *path, const struct names *names, sqlite3 *live, struct error *err)
{
    sqlite3 *fresh = NULL;

    if (!outbox_db_connect(names->fresh, SQLITE_OPEN_CREATE, OUTBOX_BUSY_MS, &fresh, err))
        return false;
    char *sql =
        sqlite3_mprintf("PRAGMA page_size = %d; PRAGMA synchronous = FULL; BEGIN; %s COMMIT;",
                        OUTBOX_PAGE_SIZE, outbox_schema);
    bool ok = (sql != NULL || error_oom(err)) && outbox_db_exec(fresh, sql, err) &&
              salvage(path, names, live, fresh, err);
    sqlite3_free(sql);
    sqlite3_close(fresh);
    return ok;
}

static bool move(const char *path, const char *aside, const char *suffix, struct error *err)
{
    char from[NAME_MAX_LEN];
    char to[NAME_MAX_LEN];

    path_join(from, path, suffix);
    path_join(to, aside, suffix);
    if (rename(from, to) != 0 && errno != ENOENT)
        return error_set(err, ERROR_UNAVAILABLE, "cannot set %s aside: %s", from, strerror(errno));
    return true;
}

/* The -shm file goes last: killed before that, the next start finds a -shm that speaks of commits
 * no -wal has, and recovers again. */
static bool swap(const char *path, const struct names *names, struct error *err)
{
    if (link(path, names->aside) != 0 && errno != ENOENT)
        return error_set(err, ERROR_UNAVAILABLE, "cannot set %s aside: %s", path, strerror(errno));
    if (!move(path, names->aside, "-wal", err))
        return false;
    if (rename(names->fresh, path) != 0)
        return error_set(err, ERROR_UNAVAILABLE, "cannot replace %s: %s", path, strerror(errno));
    return move(path, names->aside, "-shm", err) && outbox_sync_directory(path, err);
}

bool outbox_recover(const char *path, sqlite3 *live, struct error *err)
{
    struct names names;

    path_join(names.fresh, path, ".new");
    path_join(names.salvage, path, ".salvage");
    aside_name(path, names.aside);
    unlink_database(names.fresh);
    if (outbox_make_parents(path, err) && build(path, &names, live, err) && swap(path, &names, err))
        return true;
    unlink_database(names.fresh);
    return error_wrap(err, "outbox is damaged and cannot be recovered");
}
