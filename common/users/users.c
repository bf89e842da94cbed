#include "users/users.h"

#include "base/clock.h"
#include "base/embed.h"
#include "base/strings.h"
#include "base/xmalloc.h"
#include "db/db.h"
#include "users/attempts.h"
#include "users/password.h"

#include <ctype.h>
#include <string.h>

enum { SESSIONS = 8 };

EMBED_FILE(users_0001_accounts, "common/users/migrations/0001_accounts.sql");

/* In their order. A file that was released never changes: add another. */
static const struct db_migration migrations[] = {
    {"0001_accounts", users_0001_accounts},
};

struct users {
    struct users_options options; /* its strings are not kept */
    struct db *db;
    struct token_keys *keys;
    struct attempts *attempts;
};

/* ---- open and close ---- */

struct users *users_open(const struct users_options *options, struct error *err)
{
    struct users *u = xcalloc(1, sizeof(*u));

    u->options = *options;
    u->attempts = attempts_new();
    u->db = db_open(
        &(struct db_options){.url = options->url, .durable = true, .sessions = SESSIONS}, err);
    if (u->db != NULL &&
        db_migrate(u->db, "schema_migration_users", migrations, ARRAY_SIZE(migrations), err) &&
        (u->keys = token_keys_open(options->key_file, err)) != NULL)
        return u;
    users_close(u);
    return NULL;
}

void users_close(struct users *u)
{
    if (u == NULL)
        return;
    token_keys_free(u->keys);
    db_close(u->db);
    attempts_free(u->attempts);
    free(u);
}

/* ---- names and passwords ---- */

bool users_check_name(const char *name, struct error *err)
{
    size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    if (len == 0 || len > TOKEN_NAME_MAX || name[len] != '\0' || !isalnum((unsigned char)*name))
        return error_set(err, ERROR_BAD_REQUEST,
                         "name: 1 to %d letters (a to z), digits, '.', '_' and '-', first a letter "
                         "or a digit",
                         TOKEN_NAME_MAX);
    return strcmp(name, "me") != 0 ||
           error_set(err, ERROR_BAD_REQUEST, "name: \"me\" means the caller: choose another");
}

static bool check_password(const char *password, struct error *err)
{
    size_t len = strlen(password);

    return (len >= PASSWORD_MIN && len <= PASSWORD_MAX) ||
           error_set(err, ERROR_BAD_REQUEST, "password: %d to %d bytes", PASSWORD_MIN,
                     PASSWORD_MAX);
}

/* The key of any text: one that is no name has no account. */
static void key_of(const char *name, char key[TOKEN_NAME_MAX + 1])
{
    struct error ignored;
    size_t i = 0;

    if (users_check_name(name, &ignored))
        for (; name[i] != '\0'; i++)
            key[i] = (char)tolower((unsigned char)name[i]);
    key[i] = '\0';
}

/* ---- work for a worker ---- */

struct hashing {
    const char *password;
    char hash[PASSWORD_HASH_MAX]; /* out of hash_job, in of verify_job; "": nobody's */
    bool same;
};

static bool hash_job(void *arg, struct error *err)
{
    struct hashing *h = arg;

    return password_hash(h->password, h->hash, err);
}

static bool verify_job(void *arg, struct error *err)
{
    struct hashing *h = arg;

    return password_verify(h->password, *h->hash != '\0' ? h->hash : NULL, &h->same, err);
}

static bool compute(struct users *u, bool (*job)(void *, struct error *), struct hashing *h,
                    int64_t deadline_ms, struct error *err)
{
    return u->options.compute(u->options.compute_ctx, job, h, deadline_ms, err);
}

/* ---- rows ---- */

struct account {
    char key[TOKEN_NAME_MAX + 1]; /* in */
    struct user user;             /* in of add, out of find */
    char hash[PASSWORD_HASH_MAX];
    int64_t now_ms;
    bool found;
};

static bool find(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct account *a = ctx;

    if (!db_query(s,
                  "SELECT name, password, generation, created_ms FROM account"
                  " WHERE key = ?1 AND deleted_ms = 0",
                  DB_ARGS(db_text(a->key)), &rows, err))
        return false;
    enum db_step step = db_step(&rows, err);
    a->found = step == DB_ROW;
    if (a->found) {
        snprintf(a->user.name, sizeof(a->user.name), "%s", db_column_text(&rows, 0));
        snprintf(a->hash, sizeof(a->hash), "%s", db_column_text(&rows, 1));
        a->user.generation = db_column_int(&rows, 2);
        a->user.created_ms = db_column_int(&rows, 3);
    }
    return step != DB_FAILED;
}

static bool insert(void *ctx, struct db_session *s, struct error *err)
{
    struct account *a = ctx;
    int64_t changed = 0;

    bool ok = db_run(s,
                     "INSERT INTO account (key, name, password, created_ms) VALUES (?1, ?2, ?3, ?4)"
                     " ON CONFLICT (key) DO NOTHING",
                     DB_ARGS(db_text(a->key), db_text(a->user.name), db_text(a->hash),
                             db_int(a->user.created_ms)),
                     &changed, err);
    a->found = changed == 0;
    return ok;
}

static bool update(void *ctx, struct db_session *s, struct error *err)
{
    struct account *a = ctx;

    return db_run(s,
                  "UPDATE account SET password = ?2, generation = generation + 1"
                  " WHERE key = ?1 AND deleted_ms = 0",
                  DB_ARGS(db_text(a->key), db_text(a->hash)), NULL, err) &&
           find(a, s, err);
}

static bool mark_deleted(void *ctx, struct db_session *s, struct error *err)
{
    struct account *a = ctx;
    int64_t changed = 0;

    bool ok = db_run(s,
                     "UPDATE account SET password = '', generation = generation + 1,"
                     " deleted_ms = ?2 WHERE key = ?1 AND deleted_ms = 0",
                     DB_ARGS(db_text(a->key), db_int(a->now_ms)), &changed, err);
    a->found = changed > 0;
    return ok;
}

static bool was_found(const struct account *a, struct user *ret, struct error *err)
{
    if (!a->found)
        return error_set(err, ERROR_NOT_FOUND, "no such user");
    if (ret != NULL)
        *ret = a->user;
    return true;
}

/* ---- accounts ---- */

bool users_add(struct users *u, const char *name, const char *password, int64_t deadline_ms,
               struct user *ret, struct error *err)
{
    struct account a = {.user = {.generation = 1, .created_ms = clock_wall_ms()}};
    struct hashing h = {.password = password};

    if (!users_check_name(name, err) || !check_password(password, err))
        return false;
    key_of(name, a.key);
    snprintf(a.user.name, sizeof(a.user.name), "%s", name);
    if (!compute(u, hash_job, &h, deadline_ms, err))
        return false;
    snprintf(a.hash, sizeof(a.hash), "%s", h.hash);
    if (!db_write(u->db, insert, &a, deadline_ms, err))
        return error_wrap(err, "users");
    if (a.found)
        return error_set(err, ERROR_CONFLICT, "name: %s is taken, choose another", name);
    *ret = a.user;
    return true;
}

bool users_find(struct users *u, const char *name, int64_t deadline_ms, struct user *ret,
                struct error *err)
{
    struct account a = {0};

    key_of(name, a.key);
    return (db_read(u->db, find, &a, deadline_ms, err) || error_wrap(err, "users")) &&
           was_found(&a, ret, err);
}

bool users_set_password(struct users *u, const char *name, const char *password,
                        int64_t deadline_ms, struct user *ret, struct error *err)
{
    struct account a = {0};
    struct hashing h = {.password = password};

    if (!check_password(password, err) || !compute(u, hash_job, &h, deadline_ms, err))
        return false;
    key_of(name, a.key);
    snprintf(a.hash, sizeof(a.hash), "%s", h.hash);
    return (db_write(u->db, update, &a, deadline_ms, err) || error_wrap(err, "users")) &&
           was_found(&a, ret, err);
}

bool users_remove(struct users *u, const char *name, int64_t deadline_ms, struct error *err)
{
    struct account a = {.now_ms = clock_wall_ms()};

    key_of(name, a.key);
    return (db_write(u->db, mark_deleted, &a, deadline_ms, err) || error_wrap(err, "users")) &&
           was_found(&a, NULL, err);
}

struct page {
    const char *after;
    struct user *users;
    size_t count;
};

static bool list(void *ctx, struct db_session *s, struct error *err)
{
    CLEANUP(db_rows_done) struct db_rows rows = {0};
    struct page *p = ctx;
    enum db_step step = DB_DONE;

    p->count = 0;
    if (!db_query(s,
                  "SELECT name, generation, created_ms FROM account"
                  " WHERE key > ?1 AND deleted_ms = 0 ORDER BY key LIMIT 100",
                  DB_ARGS(db_text(p->after)), &rows, err))
        return false;
    while (p->count < USERS_PAGE_MAX && (step = db_step(&rows, err)) == DB_ROW) {
        struct user *user = &p->users[p->count++];
        snprintf(user->name, sizeof(user->name), "%s", db_column_text(&rows, 0));
        user->generation = db_column_int(&rows, 1);
        user->created_ms = db_column_int(&rows, 2);
    }
    return step != DB_FAILED;
}

bool users_list(struct users *u, const char *after, int64_t deadline_ms, struct user *ret,
                size_t *count, struct error *err)
{
    char key[TOKEN_NAME_MAX + 1];
    struct page p = {.after = key, .users = ret};

    key_of(after, key);
    bool ok = db_read(u->db, list, &p, deadline_ms, err) || error_wrap(err, "users");
    *count = p.count;
    return ok;
}

/* ---- sign in ---- */

static bool verify(struct users *u, const struct sign_in *attempt, struct account *a,
                   int64_t deadline_ms, bool *same, struct error *err)
{
    struct hashing h = {.password = attempt->password};

    if (!db_read(u->db, find, a, deadline_ms, err))
        return error_wrap(err, "users");
    memcpy(h.hash, a->hash, sizeof(h.hash));
    if (!compute(u, verify_job, &h, deadline_ms, err))
        return false;
    *same = h.same;
    return true;
}

bool users_sign_in(struct users *u, struct sign_in *attempt, int64_t deadline_ms, struct error *err)
{
    struct account a = {0};
    bool same = false;

    if (strlen(attempt->password) > PASSWORD_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "password: at most %d bytes", PASSWORD_MAX);
    key_of(attempt->name, a.key);
    if (!attempts_take(u->attempts, a.key, attempt->address, &attempt->wait_ms))
        return error_set(err, ERROR_TOO_MANY,
                         "too many failed attempts: try again after Retry-After");
    bool ok = verify(u, attempt, &a, deadline_ms, &same, err);
    if (!ok || same)
        attempts_give(u->attempts, a.key, attempt->address);
    if (ok && !same)
        return error_set(err, ERROR_UNAUTHORIZED, "the name or the password is wrong");
    return ok && users_token(u, &a.user, attempt->token, err);
}

bool users_token(struct users *u, const struct user *user, char out[TOKEN_MAX], struct error *err)
{
    struct token_subject subject = {.generation = user->generation};

    snprintf(subject.name, sizeof(subject.name), "%s", user->name);
    return token_sign(u->keys, &subject, out, err);
}

bool users_read_token(struct users *u, const char *token, struct token_subject *ret,
                      struct error *err)
{
    return token_read(u->keys, token, ret, err);
}

bool users_confirm(struct users *u, const struct token_subject *subject, int64_t deadline_ms,
                   struct error *err)
{
    struct account a = {0};

    key_of(subject->name, a.key);
    if (!db_read(u->db, find, &a, deadline_ms, err))
        return error_wrap(err, "users");
    return (a.found && a.user.generation == subject->generation) ||
           error_set(err, ERROR_UNAUTHORIZED, "the token's account is gone, or has a new password");
}
