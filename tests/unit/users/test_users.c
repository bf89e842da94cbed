/* The same suite on SQLite and on PostgreSQL. */
#include "users/users.h"

#include "../db/test_postgres.h"
#include "users/attempts.h"
#include "users/password.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>

enum { WAIT_MS = 60000 };

static struct test_postgres postgres;
static char dir[TEST_FOLDER_MAX], url[512], key_file[128];
static struct users *users;
static atomic_int jobs;

static int64_t soon(void)
{
    return clock_monotonic_ms() + WAIT_MS;
}

static bool compute(void *ctx, bool (*job)(void *, struct error *), void *arg, int64_t deadline_ms,
                    struct error *err)
{
    jobs++;
    return job(arg, err);
}

/* The least that libsodium computes: what a real hash costs is test_password's. */
int crypto_pwhash_str(char out[crypto_pwhash_STRBYTES], const char *const password,
                      unsigned long long len, unsigned long long ops, size_t memory)
{
    return crypto_pwhash_argon2id_str(out, password, len, crypto_pwhash_argon2id_OPSLIMIT_MIN,
                                      crypto_pwhash_argon2id_MEMLIMIT_MIN);
}

static struct users *open_users(void)
{
    struct error err = {0};
    struct users *u = users_open(
        &(struct users_options){.url = url, .key_file = key_file, .compute = compute}, &err);

    if (u == NULL)
        fail_msg("%s", err.message);
    return u;
}

static int setup_sqlite(void **state)
{
    int status = test_folder_make(dir);

    snprintf(url, sizeof(url), "sqlite:%s/a/users.db", dir);
    snprintf(key_file, sizeof(key_file), "%s/token.keys", dir);
    if (status == 0)
        users = open_users();
    return status;
}

static bool drop_all(void *ctx, struct db_session *s, struct error *err)
{
    return db_run(s, "DROP TABLE IF EXISTS account, schema_migration_users, schema_migration",
                  DB_NO_ARGS, NULL, err);
}

static int setup_postgres(void **state)
{
    struct error err = {0};

    if (test_folder_make(dir) != 0)
        return 1;
    snprintf(url, sizeof(url), "%s", postgres.url);
    snprintf(key_file, sizeof(key_file), "%s/token.keys", dir);
    if (postgres.pid == 0)
        return 0;
    struct db *db = db_open(&(struct db_options){.url = url}, &err);
    bool ok = db != NULL && db_write(db, drop_all, NULL, soon(), &err);
    db_close(db);
    if (ok)
        users = open_users();
    return !ok;
}

static int teardown(void **state)
{
    users_close(users);
    users = NULL;
    return test_folder_remove(dir);
}

#define NEED_SERVER()                                                                              \
    do {                                                                                           \
        if (users == NULL)                                                                         \
            SKIP("PostgreSQL is not installed");                                                   \
    } while (0)

static struct user add(const char *name, const char *password)
{
    struct error err = {0};
    struct user user = {0};

    if (!users_add(users, name, password, soon(), &user, &err))
        fail_msg("%s: %s", name, err.message);
    return user;
}

static enum error_code sign_in_from(const char *address, const char *name, const char *password,
                                    char token[TOKEN_MAX])
{
    struct sign_in attempt = {.name = name, .password = password, .address = address};
    struct error err = {0};

    if (users_sign_in(users, &attempt, soon(), &err))
        memcpy(token, attempt.token, TOKEN_MAX);
    else if (err.code == ERROR_UNAUTHORIZED)
        assert_string_equal(err.message, "the name or the password is wrong");
    return err.code;
}

static enum error_code sign_in(const char *name, const char *password, char token[TOKEN_MAX])
{
    return sign_in_from("192.0.2.1", name, password, token);
}

/* "" when it is not good. */
static const char *who(const char *token)
{
    static struct token_subject subject;
    struct error err = {0};

    if (users_read_token(users, token, &subject, &err) &&
        users_confirm(users, &subject, soon(), &err))
        return subject.name;
    assert_int_equal(err.code, ERROR_UNAUTHORIZED);
    return "";
}

/* ---- the suite ---- */

static void who_signed_up_signs_in(void **state)
{
    char token[TOKEN_MAX];

    NEED_SERVER();
    assert_string_equal(add("Alice", "correct horse").name, "Alice");
    assert_int_equal(sign_in("Alice", "correct horse", token), ERROR_NONE);
    assert_string_equal(who(token), "Alice");
    assert_int_equal(sign_in("ALICE", "correct horse", token), ERROR_NONE);
    assert_string_equal(who(token), "Alice");
    assert_int_equal(sign_in("Alice", "correct horsE", token), ERROR_UNAUTHORIZED);
    assert_int_equal(sign_in("bob", "correct horse", token), ERROR_UNAUTHORIZED);
    users_close(users); /* all of it is kept */
    users = open_users();
    assert_string_equal(who(token), "Alice");
    assert_int_equal(sign_in("alice", "correct horse", token), ERROR_NONE);
}

/* One computation whatever was wrong: neither words nor time tell. */
static void nothing_tells_an_unknown_name_from_a_wrong_password(void **state)
{
    static const char *const names[] = {"alice", "bob", "", "a@b", "-", "a b", "\xff", "gone"};
    char token[TOKEN_MAX], address[32];
    struct error err = {0};

    NEED_SERVER();
    add("alice", "correct horse");
    add("gone", "correct horse");
    assert_true(users_remove(users, "gone", soon(), &err));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        int before = jobs;
        snprintf(address, sizeof(address), "192.0.2.%zu", i);
        assert_int_equal(
            sign_in_from(address, names[i], i == 0 ? "wrong horse" : "correct horse", token),
            ERROR_UNAUTHORIZED);
        assert_int_equal(jobs, before + 1);
    }
}

static void names_are_given_once(void **state)
{
    struct error err = {0};
    struct user user;

    NEED_SERVER();
    add("Alice", "correct horse");
    assert_fails(err, ERROR_CONFLICT,
                 users_add(users, "alice", "another horse", soon(), &user, &err));
    assert_true(users_remove(users, "ALICE", soon(), &err));
    assert_fails(err, ERROR_CONFLICT,
                 users_add(users, "alice", "another horse", soon(), &user, &err));
    assert_fails(err, ERROR_NOT_FOUND, users_find(users, "alice", soon(), &user, &err));
    assert_fails(err, ERROR_NOT_FOUND, users_remove(users, "alice", soon(), &err));
    assert_fails(err, ERROR_NOT_FOUND,
                 users_set_password(users, "alice", "another horse", soon(), &user, &err));
}

static void what_cannot_be_is_refused(void **state)
{
    static const char *const names[] = {
        "",
        "me",
        "a@b",
        ".a",
        "-a",
        "a b",
        "a/b",
        "\xc3\xa4",
        "a\n",
        "a23456789012345678901234567890123456789012345678901234567890"
        "12345"};
    char password[PASSWORD_MAX + 2];
    struct error err = {0};
    struct user user;
    int before = jobs;

    NEED_SERVER();
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_fails(err, ERROR_BAD_REQUEST,
                     users_add(users, names[i], "correct horse", soon(), &user, &err));
    memset(password, 'x', sizeof(password) - 1);
    password[sizeof(password) - 1] = '\0';
    assert_fails(err, ERROR_BAD_REQUEST, users_add(users, "a", password, soon(), &user, &err));
    assert_fails(err, ERROR_BAD_REQUEST, users_add(users, "a", "1234567", soon(), &user, &err));
    assert_int_equal(jobs, before);
    password[PASSWORD_MAX] = '\0';
    assert_string_equal(add("a", password).name, "a");
    assert_string_equal(add("0._-Z", "12345678").name, "0._-Z");
}

static void tokens_are_void_with_their_account(void **state)
{
    char alice[TOKEN_MAX], bob[TOKEN_MAX], again[TOKEN_MAX];
    struct error err = {0};
    struct user user;

    NEED_SERVER();
    add("alice", "correct horse");
    add("bob", "battery staple");
    assert_int_equal(sign_in("alice", "correct horse", alice), ERROR_NONE);
    assert_int_equal(sign_in("bob", "battery staple", bob), ERROR_NONE);
    assert_true(users_set_password(users, "alice", "another horse", soon(), &user, &err));
    assert_string_equal(who(alice), "");
    assert_true(users_token(users, &user, again, &err));
    assert_string_equal(who(again), "alice");
    assert_int_equal(sign_in("alice", "correct horse", alice), ERROR_UNAUTHORIZED);
    assert_int_equal(sign_in("alice", "another horse", alice), ERROR_NONE);
    assert_string_equal(who(alice), "alice");
    assert_true(users_remove(users, "alice", soon(), &err));
    assert_string_equal(who(alice), "");
    assert_string_equal(who(again), "");
    assert_string_equal(who(bob), "bob");
}

static void attempts_are_limited(void **state)
{
    char token[TOKEN_MAX];
    struct sign_in attempt = {.name = "alice", .password = "wrong horse", .address = "192.0.2.1"};
    struct error err = {0};
    int guesses = 0, before;

    NEED_SERVER();
    add("alice", "correct horse");
    int64_t begin_ms = clock_monotonic_ms(), refused_ms;
    do { /* five, and one more for every 30 s that they take */
        before = jobs;
        refused_ms = clock_monotonic_ms();
        assert_false(users_sign_in(users, &attempt, soon(), &err));
    } while (err.code == ERROR_UNAUTHORIZED && ++guesses < 100);
    assert_int_equal(err.code, ERROR_TOO_MANY);
    assert_in_range(guesses, 5, 5 + (clock_monotonic_ms() - begin_ms) / 30000);
    assert_in_range(attempt.wait_ms, 1, 30000);
    assert_int_equal(jobs, before); /* at no cost */
    assert_true(sign_in("ALICE", "correct horse", token) == ERROR_TOO_MANY ||
                clock_monotonic_ms() - refused_ms >= attempt.wait_ms);
    /* who comes from elsewhere is not locked out */
    assert_int_equal(sign_in_from("192.0.2.2", "alice", "correct horse", token), ERROR_NONE);
    for (int i = 0; i < 20; i++)
        assert_int_equal(sign_in_from("192.0.2.2", "alice", "correct horse", token), ERROR_NONE);
}

static void lists_have_all_in_pages(void **state)
{
    static struct user page[USERS_PAGE_MAX];
    struct error err = {0};
    size_t count = 0;

    NEED_SERVER();
    add("Carol", "correct horse");
    add("alice", "correct horse");
    add("bob", "correct horse");
    assert_true(users_remove(users, "bob", soon(), &err));
    assert_true(users_list(users, "", soon(), page, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(page[0].name, "alice");
    assert_string_equal(page[1].name, "Carol");
    assert_true(page[0].created_ms > 0);
    assert_true(users_list(users, "alice", soon(), page, &count, &err));
    assert_int_equal(count, 1);
}

/* Of many who want one name, one gets it. */
static atomic_int given, taken;

static void *want_it(void *arg)
{
    struct error err = {0};
    struct user user;

    if (users_add(users, arg, "correct horse", soon(), &user, &err))
        given++;
    else if (err.code == ERROR_CONFLICT)
        taken++;
    return NULL;
}

static void one_of_many_gets_a_name(void **state)
{
    static char names[2][8] = {"alice", "ALICE"};
    pthread_t threads[6];

    NEED_SERVER();
    given = taken = 0;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, want_it, names[i % 2]), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(given, 1);
    assert_int_equal(taken, 5);
}

static void a_newer_database_is_refused(void **state)
{
    static const struct db_migration more[] = {
        {"1", "SELECT 1;"}, {"2", "SELECT 1;"}, {"3", "SELECT 1;"}};
    struct error err = {0};

    NEED_SERVER();
    struct db *db = db_open(&(struct db_options){.url = url}, &err);
    assert_non_null(db);
    assert_true(db_migrate(db, "schema_migration_users", more, 3, &err));
    assert_true(db_migrate(db, "schema_migration", more, 1, &err)); /* another room's */
    db_close(db);
    assert_null(users_open(
        &(struct users_options){.url = url, .key_file = key_file, .compute = compute}, &err));
    assert_int_equal(err.code, ERROR_CONFIG);
}

#define CASE(test, setup) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define SUITE(setup)                                                                               \
    CASE(who_signed_up_signs_in, setup),                                                           \
        CASE(nothing_tells_an_unknown_name_from_a_wrong_password, setup),                          \
        CASE(names_are_given_once, setup), CASE(what_cannot_be_is_refused, setup),                 \
        CASE(tokens_are_void_with_their_account, setup), CASE(attempts_are_limited, setup),        \
        CASE(lists_have_all_in_pages, setup), CASE(one_of_many_gets_a_name, setup),                \
        CASE(a_newer_database_is_refused, setup)

static int start_server(void **state)
{
    test_postgres_start(&postgres);
    return 0;
}

static int stop_server(void **state)
{
    test_postgres_stop(&postgres);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {SUITE(setup_sqlite), SUITE(setup_postgres)};

    return cmocka_run_group_tests_name("users", tests, start_server, stop_server);
}
