/* The same suite on SQLite and on PostgreSQL, which tests/servers/postgres.sh starts. */
#include "test_postgres.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { WAIT_MS = 30000 };

#define NAME(text) ((char[]){text})

static struct test_postgres postgres;
static char dir[TEST_FOLDER_MAX];
static char url[512];

static int64_t soon(void)
{
    return clock_monotonic_ms() + WAIT_MS;
}

static const struct db_migration migrations[] = {
    {"0001_things", "CREATE TABLE thing (seq @serial@, name TEXT NOT NULL UNIQUE,"
                    " weight DOUBLE PRECISION, size BIGINT NOT NULL DEFAULT 0);"
                    "CREATE TABLE link (a TEXT NOT NULL, b BIGINT NOT NULL, PRIMARY KEY (a, b))"
                    " @by_key@;"},
    {"0002_more", "ALTER TABLE thing ADD COLUMN note TEXT;"},
};

static struct db *open_it(void)
{
    struct error err = {0};
    struct db *db = db_open(&(struct db_options){.url = url, .sessions = 4}, &err);

    if (db == NULL)
        fail_msg("%s", err.message);
    return db;
}

static void migrate(struct db *db, size_t count)
{
    struct error err = {0};

    if (!db_migrate(db, "schema_migration", migrations, count, &err))
        fail_msg("%s", err.message);
}

static struct db *open_migrated(void)
{
    struct db *db = open_it();

    migrate(db, 2);
    return db;
}

static int setup_sqlite(void **state)
{
    (void)state;
    int status = test_folder_make(dir);
    snprintf(url, sizeof(url), "sqlite:%s/a/b/test.db", dir);
    return status;
}

static int teardown_sqlite(void **state)
{
    (void)state;
    return test_folder_remove(dir);
}

static bool drop_all(void *ctx, struct db_session *s, struct error *err)
{
    (void)ctx;
    return db_run(s, "DROP TABLE IF EXISTS thing, link, schema_migration", DB_NO_ARGS, NULL, err);
}

static int setup_postgres(void **state)
{
    struct error err = {0};

    (void)state;
    snprintf(url, sizeof(url), "%s", postgres.url);
    if (postgres.pid == 0)
        return 0; /* each test says that it is skipped */
    struct db *db = open_it();
    bool ok = db_write(db, drop_all, NULL, soon(), &err);
    db_close(db);
    return !ok;
}

#define NEED_SERVER()                                                                              \
    do {                                                                                           \
        if (strncmp(url, "sqlite:", 7) != 0 && postgres.pid == 0)                                  \
            SKIP("PostgreSQL is not installed");                                                   \
    } while (0)

/* ---- work ---- */

static bool insert(void *name, struct db_session *s, struct error *err)
{
    return db_run(s, "INSERT INTO thing (name, weight, note) VALUES (?1, ?2, ?3)",
                  DB_ARGS(db_text(name), db_real(0.1), db_text(NULL)), NULL, err);
}

static bool insert_and_fail(void *name, struct db_session *s, struct error *err)
{
    return insert(name, s, err) && error_set(err, ERROR_BAD_REQUEST, "on purpose");
}

static bool count(void *ret, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};

    if (!db_query(s, "SELECT count(*) FROM thing", DB_NO_ARGS, &rows, err) ||
        db_step(&rows, err) != DB_ROW)
        return false;
    *(int64_t *)ret = db_column_int(&rows, 0);
    return true;
}

static int64_t count_of(struct db *db)
{
    struct error err = {0};
    int64_t n = -1;

    if (!db_read(db, count, &n, soon(), &err))
        fail_msg("%s", err.message);
    return n;
}

static void write_it(struct db *db, db_work work, void *ctx)
{
    struct error err = {0};

    if (!db_write(db, work, ctx, soon(), &err))
        fail_msg("%s", err.message);
}

static char *name_of(int n, char out[32])
{
    snprintf(out, 32, "thing %d", n);
    return out;
}

/* ---- the suite ---- */

static bool check_types(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    int64_t changed = 0;

    (void)ctx;
    if (!db_run(s, "INSERT INTO thing (name, weight, size, note) VALUES (?1, ?2, ?3, ?4)",
                DB_ARGS(db_text("h\xc3\xa9 'quoted'; --"), db_real(0.1), db_int(INT64_MIN),
                        db_text(NULL)),
                &changed, err))
        return false;
    assert_int_equal(changed, 1);
    if (!db_query(s, "SELECT name, weight, size, note FROM thing WHERE size < ?1",
                  DB_ARGS(db_int(0)), &rows, err))
        return false;
    assert_int_equal(db_step(&rows, err), DB_ROW);
    assert_string_equal(db_column_text(&rows, 0), "h\xc3\xa9 'quoted'; --");
    assert_true(db_column_real(&rows, 1) == 0.1);
    assert_true(db_column_int(&rows, 2) == INT64_MIN);
    assert_null(db_column_text(&rows, 3));
    assert_int_equal(db_step(&rows, err), DB_DONE);
    return true;
}

static void types_come_back_as_they_went(void **state)
{
    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    write_it(db, check_types, NULL);
    db_close(db);
}

static void a_failed_transaction_leaves_nothing(void **state)
{
    struct error err = {0};

    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    assert_false(db_write(db, insert_and_fail, NAME("a"), soon(), &err));
    assert_string_equal(err.message, "on purpose");
    assert_int_equal(count_of(db), 0);
    write_it(db, insert, NAME("a"));
    assert_false(db_write(db, insert, NAME("a"), soon(), &err)); /* UNIQUE */
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    write_it(db, insert, NAME("b"));
    assert_int_equal(count_of(db), 2);
    db_close(db);
    db = open_it();
    assert_int_equal(count_of(db), 2);
    db_close(db);
}

static void migrations_go_forward_only(void **state)
{
    struct error err = {0};

    (void)state;
    NEED_SERVER();
    struct db *db = open_it();
    migrate(db, 1);
    migrate(db, 2);
    migrate(db, 2);
    write_it(db, insert, NAME("with a note"));
    assert_false(db_migrate(db, "schema_migration", migrations, 1, &err));
    assert_int_equal(err.code, ERROR_CONFIG);
    assert_non_null(strstr(err.message, "newer"));
    db_close(db);
}

static void a_broken_migration_changes_nothing(void **state)
{
    static const struct db_migration broken[] = {
        {"0001_broken", "CREATE TABLE thing (name TEXT); CREATE TABLE thing (name TEXT);"}};
    struct error err = {0};

    (void)state;
    NEED_SERVER();
    struct db *db = open_it();
    assert_false(db_migrate(db, "schema_migration", broken, 1, &err));
    assert_non_null(strstr(err.message, "0001_broken"));
    migrate(db, 2);
    db_close(db);
}

static void *migrate_main(void *failed)
{
    struct error err = {0};
    struct db *db = db_open(&(struct db_options){.url = url}, &err);

    if (db == NULL || !db_migrate(db, "schema_migration", migrations, 2, &err)) {
        fprintf(stderr, "%s\n", err.message);
        atomic_fetch_add((atomic_int *)failed, 1);
    }
    db_close(db);
    return NULL;
}

static void many_may_migrate_at_a_time(void **state)
{
    pthread_t threads[6];
    atomic_int failed = 0;

    (void)state;
    NEED_SERVER();
    for (int i = 0; i < 6; i++)
        pthread_create(&threads[i], NULL, migrate_main, &failed);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(failed, 0);
    struct db *db = open_it();
    assert_int_equal(count_of(db), 0);
    db_close(db);
}

struct writer {
    struct db *db;
    int from, failed;
};

enum { WRITES = 60 };

/* Every fifth fails by itself, and takes no other with it. */
static void *writer_main(void *arg)
{
    struct writer *w = arg;
    char name[32];

    for (int i = 0; i < WRITES; i++) {
        struct error err = {0};
        bool fail = i % 5 == 4;
        bool ok = db_write(w->db, fail ? insert_and_fail : insert, name_of(w->from + i, name),
                           soon(), &err);
        w->failed += ok == fail;
    }
    return NULL;
}

static void writers_do_not_harm_each_other(void **state)
{
    pthread_t threads[8];
    struct writer writers[8];

    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    for (int i = 0; i < 8; i++) {
        writers[i] = (struct writer){db, i * 1000, 0};
        pthread_create(&threads[i], NULL, writer_main, &writers[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(writers[i].failed, 0);
    }
    assert_int_equal(count_of(db), 8 * WRITES * 4 / 5);
    struct error err = {0};
    assert_true(db_sync(db, &err));
    db_tidy(db);
    db_close(db);
}

static bool read_twice(void *ctx, struct db_session *s, struct error *err)
{
    int64_t before = -1, after = -1;

    if (!count(&before, s, err))
        return false;
    write_it(ctx, insert, NAME("meanwhile"));
    return count(&after, s, err) && (assert_int_equal(before, after), true);
}

static void a_reader_sees_one_state(void **state)
{
    struct error err = {0};

    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    assert_true(db_read(db, read_twice, db, soon(), &err));
    assert_int_equal(count_of(db), 1);
    db_close(db);
}

/* ---- SQLite ---- */

static void urls_are_checked(void **state)
{
    struct error err = {0};

    (void)state;
    assert_true(db_url_check("sqlite:data/x.db", &err));
    assert_true(db_url_check("postgresql://host/db", &err));
    assert_false(db_url_check("sqlite:", &err));
    assert_false(db_url_check("mysql://host/db", &err));
    assert_false(db_url_check("", &err));
}

static void a_file_that_is_no_database_is_damaged(void **state)
{
    struct error err = {0};
    char path[256];

    (void)state;
    snprintf(path, sizeof(path), "%s/junk.db", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        fputs("junk", f);
    fclose(f);
    snprintf(url, sizeof(url), "sqlite:%s", path);
    assert_null(db_open(&(struct db_options){.url = url}, &err));
    assert_non_null(strstr(err.message, "damaged"));
}

/* Its first page is whole: it can be opened. */
static void damage_pages(const char *path)
{
    char page[4096];

    memset(page, 0xff, sizeof(page));
    FILE *f = fopen(path, "r+");
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    for (long at = sizeof(page); at < size; at += (long)sizeof(page)) {
        fseek(f, at, SEEK_SET);
        fwrite(page, 1, sizeof(page), f);
    }
    fclose(f);
}

struct reader {
    struct db *db;
    atomic_bool stop;
};

static void *read_always(void *arg)
{
    struct reader *r = arg;
    struct error ignored = {0};
    int64_t n = 0;

    while (!atomic_load(&r->stop))
        (void)!db_read(r->db, count, &n, soon(), &ignored);
    return NULL;
}

static void a_damaged_file_is_set_aside_while_it_is_read(void **state)
{
    struct error err = {0};
    pthread_t thread;

    (void)state;
    db_close(open_migrated());
    damage_pages(url + strlen("sqlite:"));
    struct reader reader = {.db = open_it()};
    assert_true(db_set_aside(reader.db, &err));
    assert_int_equal(db_replaced(reader.db), 0); /* nothing is known of it */
    pthread_create(&thread, NULL, read_always, &reader);
    assert_false(db_write(reader.db, insert, NAME("a"), soon(), &err));
    assert_true(db_is_damaged(reader.db));
    assert_true(db_set_aside(reader.db, &err));
    assert_false(db_is_damaged(reader.db));
    assert_int_equal(db_replaced(reader.db), 1);
    assert_int_equal(test_folder_count(dir, "a/b/test.db.corrupt-*Z"), 1);
    migrate(reader.db, 2);
    write_it(reader.db, insert, NAME("a"));
    assert_int_equal(count_of(reader.db), 1);
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    db_close(reader.db);
    struct db *db = open_it();
    assert_int_equal(count_of(db), 1);
    db_close(db);
}

static void a_derived_file_that_is_no_database_is_set_aside_at_once(void **state)
{
    struct error err = {0};

    (void)state;
    db_close(open_migrated());
    FILE *f = fopen(url + strlen("sqlite:"), "w");
    for (int i = 0; i < 5000; i++)
        fputs("junk", f);
    fclose(f);
    struct db *db = db_open(&(struct db_options){.url = url, .derived = true}, &err);
    assert_non_null(db);
    migrate(db, 2);
    assert_int_equal(count_of(db), 0);
    assert_int_equal(test_folder_count(dir, "a/b/test.db.corrupt-*Z"), 1);
    db_close(db);
}

static void a_killed_process_loses_no_commit(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct db *db = open_migrated();
        write_it(db, insert, NAME("committed"));
        raise(SIGKILL);
    }
    waitpid(pid, NULL, 0);
    struct db *db = open_it();
    assert_int_equal(count_of(db), 1);
    db_close(db);
}

/* ---- PostgreSQL ---- */

static void a_restarted_server_is_found_again(void **state)
{
    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    struct error err = {0};
    write_it(db, insert, NAME("before"));
    test_postgres_kill(&postgres, SIGQUIT); /* ends its processes, and saves nothing */
    assert_false(db_write(db, insert, NAME("during"), clock_monotonic_ms() + 2000, &err));
    assert_true(error_is_passing(err.code));
    assert_true(test_postgres_launch(&postgres));
    write_it(db, insert, NAME("after")); /* on the connection that was lost */
    assert_int_equal(count_of(db), 2);
    db_close(db);
}

static bool sleep_long(void *ctx, struct db_session *s, struct error *err)
{
    (void)ctx;
    return db_run(s, "SELECT pg_sleep(30)", DB_NO_ARGS, NULL, err);
}

static void a_slow_server_meets_the_deadline(void **state)
{
    struct error err = {0};

    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    int64_t started_ms = clock_monotonic_ms();
    assert_false(db_read(db, sleep_long, NULL, started_ms + 300, &err));
    assert_int_equal(err.code, ERROR_DEADLINE);
    assert_in_range(clock_monotonic_ms() - started_ms, 300, 20000);
    write_it(db, insert, NAME("next"));
    assert_int_equal(count_of(db), 1);
    db_close(db);
}

/* Two transactions that take two rows in opposite order: one of them is a deadlock's victim. */
struct crossing {
    struct db *db;
    const char *first, *second;
    pthread_barrier_t *both;
    int runs;
    bool ok;
};

static bool cross(void *ctx, struct db_session *s, struct error *err)
{
    static const char sql[] = "UPDATE thing SET size = size + 1 WHERE name = ?1";
    struct crossing *c = ctx;

    if (!db_run(s, sql, DB_ARGS(db_text(c->first)), NULL, err))
        return false;
    if (c->runs++ == 0)
        pthread_barrier_wait(c->both);
    return db_run(s, sql, DB_ARGS(db_text(c->second)), NULL, err);
}

static void *cross_main(void *arg)
{
    struct crossing *c = arg;
    struct error err = {0};

    c->ok = db_write(c->db, cross, c, soon(), &err);
    if (!c->ok)
        fprintf(stderr, "after %d runs: %s\n", c->runs, err.message);
    return NULL;
}

static void a_deadlocks_victim_is_tried_again(void **state)
{
    pthread_barrier_t both;
    pthread_t threads[2];

    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    write_it(db, insert, NAME("a"));
    write_it(db, insert, NAME("b"));
    pthread_barrier_init(&both, NULL, 2);
    struct crossing c[2] = {{db, "a", "b", &both, 0, false}, {db, "b", "a", &both, 0, false}};
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, cross_main, &c[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(c[0].ok && c[1].ok);
    assert_true(c[0].runs + c[1].runs >= 3);
    pthread_barrier_destroy(&both);
    db_close(db);
}

static bool insert_next(void *ctx, struct db_session *s, struct error *err)
{
    int *number = ctx;
    char name[32];

    return insert(name_of(++*number, name), s, err);
}

/* Its work may choose another. */
static void a_taken_key_is_tried_again(void **state)
{
    int number = 0;
    char name[32];

    (void)state;
    NEED_SERVER();
    struct db *db = open_migrated();
    write_it(db, insert, name_of(1, name));
    write_it(db, insert_next, &number);
    assert_int_equal(number, 2);
    db_close(db);
}

#define SUITE(setup, teardown)                                                                     \
    cmocka_unit_test_setup_teardown(types_come_back_as_they_went, setup, teardown),                \
        cmocka_unit_test_setup_teardown(a_failed_transaction_leaves_nothing, setup, teardown),     \
        cmocka_unit_test_setup_teardown(migrations_go_forward_only, setup, teardown),              \
        cmocka_unit_test_setup_teardown(a_broken_migration_changes_nothing, setup, teardown),      \
        cmocka_unit_test_setup_teardown(many_may_migrate_at_a_time, setup, teardown),              \
        cmocka_unit_test_setup_teardown(writers_do_not_harm_each_other, setup, teardown),          \
        cmocka_unit_test_setup_teardown(a_reader_sees_one_state, setup, teardown)

static int start_server(void **state)
{
    (void)state;
    test_postgres_start(&postgres);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    test_postgres_stop(&postgres);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_checked),
        SUITE(setup_sqlite, teardown_sqlite),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_database_is_damaged, setup_sqlite,
                                        teardown_sqlite),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_set_aside_while_it_is_read, setup_sqlite,
                                        teardown_sqlite),
        cmocka_unit_test_setup_teardown(a_derived_file_that_is_no_database_is_set_aside_at_once,
                                        setup_sqlite, teardown_sqlite),
        cmocka_unit_test_setup_teardown(a_killed_process_loses_no_commit, setup_sqlite,
                                        teardown_sqlite),
        SUITE(setup_postgres, NULL),
        cmocka_unit_test_setup(a_restarted_server_is_found_again, setup_postgres),
        cmocka_unit_test_setup(a_slow_server_meets_the_deadline, setup_postgres),
        cmocka_unit_test_setup(a_deadlocks_victim_is_tried_again, setup_postgres),
        cmocka_unit_test_setup(a_taken_key_is_tried_again, setup_postgres),
    };

    return cmocka_run_group_tests_name("db", tests, start_server, stop_server);
}
