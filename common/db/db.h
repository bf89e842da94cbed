/* A database: SQLite (a file, WAL, one writer, any number of readers) or PostgreSQL (a pool of
 * connections), behind one interface: open, migrate, and transactions whose statements are stepped
 * through. The same SQL runs on both: placeholders are ?1, ?2, …; what differs has a name in
 * migrations (db_migrate).
 *
 * Errors of every call: ERROR_UNAVAILABLE (down, full, read-only, damaged, another constraint
 * broken), ERROR_DEADLINE. Thread-safe, but a session and its rows are of one thread. Deadlines are
 * on the monotonic clock. */
#pragma once

#include "base/bytes.h"
#include "db/rows.h"

struct db;
struct db_session; /* in a transaction */

struct db_options {
    const char *url; /* sqlite:PATH, or postgresql://… as libpq has it; copied */
    /* SQLite: a commit is on the disk when it returns. Otherwise it survives the process, and power
     * loss only after the next db_sync. PostgreSQL's commits always are. */
    bool durable;
    size_t sessions;    /* at most, of PostgreSQL; SQLite's readers */
    int64_t connect_ms; /* how long db_open and db_migrate may take; 0: 10 s */
    bool derived;       /* SQLite: what is in it can be made anew: db_open sets damage aside */
};

/* ERROR_BAD_REQUEST when the URL is neither; says why. Opens nothing. */
bool db_url_check(const char *url, struct error *err) NODISCARD;
bool db_url_is_sqlite(const char *url);

/* SQLite: open the file, made if absent with its directories. PostgreSQL: connect once. */
struct db *db_open(const struct db_options *options, struct error *err) NODISCARD;
void db_close(struct db *db);
bool db_is_sqlite(const struct db *db);
/* Of a session. */
struct db *db_of(const struct db_session *session);
/* SQLite found its file damaged, or not a database. */
bool db_is_damaged(const struct db *db);
/* A damaged file becomes <path>.corrupt-<time>, between two transactions. What comes next is in a
 * new one, which has no tables before db_migrate. One that is not damaged stays. */
bool db_set_aside(struct db *db, struct error *err) NODISCARD;
/* How often that was; the same throughout a transaction. */
int db_replaced(const struct db *db);

/* ---- migrations: forward only, each in a transaction of its own, one process at a time ---- */

struct db_migration {
    const char *name; /* of its file, "0001_images" */
    /* Statements with ';' behind each. @serial@ is an integer primary key that counts up, and
     * @by_key@ behind a table keeps its rows in the order of the primary key where that is known.
     */
    const char *sql;
};

/* Apply those of `list` that are not; number 1 is the first. ERROR_CONFIG when the database has
 * more than these: a newer program was here. `table` notes which were applied: each room that has
 * tables in a database has one of its own there. */
bool db_migrate(struct db *db, const char *table, const struct db_migration *list, size_t count,
                struct error *err) NODISCARD;

/* ---- transactions ---- */

typedef bool (*db_work)(void *ctx, struct db_session *session, struct error *err);

/* Run `work` in a transaction, and commit it when it returns true. It may run on another caller's
 * thread, with other callers' work in the same commit; and once more, when PostgreSQL went away or
 * two transactions stood in each other's way: it must do the same again. */
bool db_write(struct db *db, db_work work, void *ctx, int64_t deadline_ms,
              struct error *err) NODISCARD;
/* The same for work that only reads: beside the writer, on a snapshot. */
bool db_read(struct db *db, db_work work, void *ctx, int64_t deadline_ms,
             struct error *err) NODISCARD;

/* What was committed so far survives power loss. */
bool db_sync(struct db *db, struct error *err) NODISCARD;
/* SQLite: another number after each commit. */
int64_t db_commits(const struct db *db);
/* SQLite: copy the -wal into the file if it has grown. For a thread that no request waits for. */
void db_tidy(struct db *db);

/* ---- statements ---- */

static inline struct db_value db_int(int64_t v)
{
    return (struct db_value){.type = DB_VALUE_INT, .integer = v};
}
static inline struct db_value db_real(double v)
{
    return (struct db_value){.type = DB_VALUE_REAL, .real = v};
}
static inline struct db_value db_text(const char *v)
{
    return (struct db_value){.type = v == NULL ? DB_VALUE_NULL : DB_VALUE_TEXT, .text = v};
}

/* Begin a statement, prepared once a session. */
bool db_query(struct db_session *session, const char *sql, const struct db_value *args,
              size_t count, struct db_rows *ret, struct error *err) NODISCARD;
enum db_step db_step(struct db_rows *rows, struct error *err) NODISCARD;
/* Columns of the row stepped to, from 0; NULL is 0 and NULL. A text lives until the next step. */
const char *db_column_text(const struct db_rows *rows, int column);
int64_t db_column_int(const struct db_rows *rows, int column);
double db_column_real(const struct db_rows *rows, int column);
void db_rows_done(struct db_rows *rows);

/* A statement without rows. *changed (may be NULL): how many rows it inserted, changed, deleted. */
bool db_run(struct db_session *session, const char *sql, const struct db_value *args, size_t count,
            int64_t *changed, struct error *err) NODISCARD;

#define DB_ARGS(...)                                                                               \
    (const struct db_value[]){__VA_ARGS__},                                                        \
        sizeof((const struct db_value[]){__VA_ARGS__}) / sizeof(struct db_value)
#define DB_NO_ARGS NULL, 0
