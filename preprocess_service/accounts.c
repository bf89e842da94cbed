#include "accounts.h"

#include "base/log.h"
#include "base/metrics.h"
#include "base/strings.h"
#include "users/password.h"

#include <string.h>

enum { CALL_MS = 30000 };

/* ---- whose names ---- */

bool accounts_is_admin(const struct settings *s, const char *name)
{
    return string_list_has(s->admins, name, true);
}

/* ---- passwords, by the worker pool ---- */

struct password_work {
    bool (*job)(void *arg, struct error *err);
    void *arg;
};

static bool run(void *state, void *arg, const atomic_bool *cancelled, struct error *err)
{
    struct password_work *work = arg;

    (void)state;
    (void)cancelled;
    return work->job(work->arg, err);
}

/* A large one: thumbnails do not wait behind those who guess, and few run together. */
static bool compute(void *ctx, bool (*job)(void *arg, struct error *err), void *arg,
                    int64_t deadline_ms, struct error *err)
{
    struct password_work work = {job, arg};

    return worker_pool_run(
        ((struct app *)ctx)->service.pool,
        &(struct pool_job){.run = run, .arg = &work, .large = true, .memory = PASSWORD_MEMORY},
        deadline_ms, err);
}

static bool compute_here(void *ctx, bool (*job)(void *arg, struct error *err), void *arg,
                         int64_t deadline_ms, struct error *err)
{
    (void)ctx;
    (void)deadline_ms;
    return job(arg, err);
}

struct users *accounts_open(const struct settings *s, struct app *app, struct error *err)
{
    struct users *users =
        users_open(&(struct users_options){.url = s->users_url,
                                           .key_file = s->token_key_file,
                                           .compute = app != NULL ? compute : compute_here,
                                           .compute_ctx = app},
                   err);

    if (users == NULL)
        error_wrap(err, "USERS");
    return users;
}

bool accounts_had(void *users, const char *name, int64_t at_ms, bool *ret, struct error *err)
{
    struct user user;
    struct error why = {0};

    *ret = true;
    if (users == NULL || strchr(name, '@') != NULL)
        return true;
    if (users_find(users, name, clock_monotonic_ms() + CALL_MS, &user, &why)) {
        *ret = user.created_ms <= at_ms;
        return true;
    }
    *ret = false;
    if (why.code == ERROR_NOT_FOUND)
        return true;
    *err = why;
    return false;
}

/* ---- for the authorizer ---- */

static void set_caller(const struct app *app, const struct token_subject *subject,
                       struct caller *ret)
{
    snprintf(ret->name, sizeof(ret->name), "%s", subject->name);
    ret->generation = subject->generation;
    ret->admin = accounts_is_admin(&app->service.settings, subject->name);
}

static bool read_token(void *ctx, const char *token, struct caller *ret, struct error *err)
{
    const struct app *app = ctx;
    struct token_subject subject;

    if (!users_read_token(app->users, token, &subject, err))
        return false;
    set_caller(app, &subject, ret);
    return true;
}

static bool confirm(void *ctx, const struct caller *caller, int64_t deadline_ms, struct error *err)
{
    const struct app *app = ctx;
    struct token_subject subject = {.generation = caller->generation};

    snprintf(subject.name, sizeof(subject.name), "%.*s", TOKEN_NAME_MAX, caller->name);
    return users_confirm(app->users, &subject, deadline_ms, err);
}

static bool is_admin(void *ctx, const char *name)
{
    const struct app *app = ctx;

    return accounts_is_admin(&app->service.settings, name);
}

void accounts_require(struct app *app)
{
    authorizer_use(app->service.authorizer,
                   &(struct authorizer_users){
                       .ctx = app, .read = read_token, .confirm = confirm, .is_admin = is_admin});
}

bool accounts_identify(const struct app *app, const struct token_subject *subject,
                       int64_t deadline_ms, struct caller *ret, struct error *err)
{
    set_caller(app, subject, ret);
    return users_confirm(app->users, subject, deadline_ms, err);
}

/* ---- sign up, sign in ---- */

bool accounts_may_take(const struct app *app, const struct context *ctx, const char *name,
                       struct error *err)
{
    return ctx->admin || !accounts_is_admin(&app->service.settings, name) ||
           error_set(err, ERROR_CONFLICT, "name: %.64s is taken, choose another", name);
}

/* The name is not logged: it may be the password, in the wrong field. */
static void note(const struct context *ctx, const char *address, enum error_code code)
{
    const char *outcome = code == ERROR_NONE           ? "ok"
                          : code == ERROR_UNAUTHORIZED ? "refused"
                          : code == ERROR_TOO_MANY     ? "limited"
                                                       : "failed";
    char labels[METRIC_LABELS_MAX];

    snprintf(labels, sizeof(labels), "outcome=\"%s\"", outcome);
    metric_add(METRIC_SIGN_INS, labels, 1);
    if (code == ERROR_UNAUTHORIZED || code == ERROR_TOO_MANY)
        log_info("sign-in refused", F("outcome", outcome), F("address", address),
                 F("request_id", ctx->id));
}

bool accounts_sign_in(const struct app *app, const struct context *ctx, struct sign_in *attempt,
                      struct error *err)
{
    bool ok = users_sign_in(app->users, attempt, ctx->deadline_ms, err);

    note(ctx, attempt->address, ok ? ERROR_NONE : err->code);
    return ok;
}
