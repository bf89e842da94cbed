#include "base/clock.h"
#include "base/xmalloc.h"
#include "db/db.h"
#include "db/driver.h"

#include <string.h>

enum { SQL_MAX = 65536, STATEMENT_MAX = 256 };

struct migrate {
    const char *table;
    const struct db_migration *list;
    size_t count;
    bool more; /* out: another one may be left */
};

/* The SQL with what differs between databases filled in. */
static bool expand(const struct db_driver *driver, const char *sql, struct buffer *out,
                   struct error *err)
{
    static const char serial[] = "@serial@", by_key[] = "@by_key@";

    for (const char *p; (p = strchr(sql, '@')) != NULL;) {
        bool is_serial = strncmp(p, serial, strlen(serial)) == 0;
        if (!is_serial && strncmp(p, by_key, strlen(by_key)) != 0)
            return error_set(err, ERROR_INTERNAL, "a migration has an unknown @name@");
        if (!buffer_append(out, sql, (size_t)(p - sql), err) ||
            !buffer_append_str(out, is_serial ? driver->serial : driver->by_key, err))
            return false;
        sql = p + (is_serial ? strlen(serial) : strlen(by_key));
    }
    return buffer_append_str(out, sql, err);
}

static bool read_version(struct db_session *s, const char *table, int64_t *ret, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    char sql[STATEMENT_MAX];

    snprintf(sql, sizeof(sql), "SELECT max(number) FROM %s", table);
    if (!db_query(s, sql, DB_NO_ARGS, &rows, err) || db_step(&rows, err) != DB_ROW)
        return false;
    *ret = db_column_int(&rows, 0);
    return true;
}

/* The next one that is missing. */
static bool apply_next(void *ctx, struct db_session *s, struct error *err)
{
    const struct db_driver *driver = s->db->driver;
    CLEANUP(buffer_done) struct buffer sql = BUFFER_MAX(SQL_MAX);
    struct migrate *m = ctx;
    char table[STATEMENT_MAX], note[STATEMENT_MAX];
    int64_t version = 0;

    m->more = false;
    snprintf(table, sizeof(table),
             "CREATE TABLE IF NOT EXISTS %s (number BIGINT PRIMARY KEY, name TEXT NOT NULL,"
             " applied_ms BIGINT NOT NULL)",
             m->table);
    snprintf(note, sizeof(note), "INSERT INTO %s VALUES (?1, ?2, ?3)", m->table);
    if ((*driver->lock_migrations != '\0' && !driver->script(s, driver->lock_migrations, err)) ||
        !driver->script(s, table, err) || !read_version(s, m->table, &version, err))
        return false;
    if (version > (int64_t)m->count)
        return error_set(err, ERROR_CONFIG,
                         "the database was written by a newer version of this program (schema "
                         "%lld, known is %zu): use that version",
                         (long long)version, m->count);
    if (version == (int64_t)m->count)
        return true;
    const struct db_migration *next = &m->list[version];
    const char *text = expand(driver, next->sql, &sql, err) ? buffer_cstr(&sql, err) : NULL;
    m->more = true;
    return text != NULL &&
           ((driver->script(s, text, err) &&
             db_run(s, note,
                    DB_ARGS(db_int(version + 1), db_text(next->name), db_int(clock_wall_ms())),
                    NULL, err)) ||
            error_wrap(err, "migration %s", next->name));
}

/* What most starts find. */
static bool is_current(void *ctx, struct db_session *s, struct error *err)
{
    struct migrate *m = ctx;
    int64_t version = 0;

    m->more = !read_version(s, m->table, &version, err) || version != (int64_t)m->count;
    return true;
}

bool db_migrate(struct db *db, const char *table, const struct db_migration *list, size_t count,
                struct error *err)
{
    struct migrate m = {.table = table, .list = list, .count = count, .more = true};
    int64_t deadline_ms = clock_monotonic_ms() + db->connect_ms;
    struct error ignored = {0};

    if (db_is_sqlite(db) && db_write(db, is_current, &m, deadline_ms, &ignored) && !m.more)
        return true;
    m.more = true;
    while (m.more)
        if (!db_write(db, apply_next, &m, deadline_ms, err))
            return false;
    return true;
}
