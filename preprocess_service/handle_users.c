/* POST /v1/users, POST /v1/tokens; GET, PATCH and DELETE /v1/users/me. */
#include "accounts.h"
#include "base/clock.h"
#include "json_body.h"

#include <string.h>

enum { BODY_BYTES_MAX = 16 * 1024 }; /* a long password, each byte an escape */

static bool has_users(const struct app *app, const struct request *req, struct error *err)
{
    if (app->users == NULL)
        return error_set(err, ERROR_NOT_FOUND, "there are no users: USERS is off");
    return request_has_no_query(req, err);
}

/* ---- bodies ---- */

struct credentials {
    const char *name, *password; /* borrowed from the body; NULL: not in it */
};

static bool read_credentials(const struct request *req, struct json_body *body, bool with_name,
                             struct credentials *ret, struct error *err)
{
    const char *key;
    json_t *value;

    *ret = (struct credentials){0};
    if (!json_body_read(req, BODY_BYTES_MAX, body, err))
        return false;
    json_object_foreach(body->object, key, value)
    {
        const char **field = strcmp(key, "password") == 0            ? &ret->password
                             : with_name && strcmp(key, "name") == 0 ? &ret->name
                                                                     : NULL;
        const char *text = json_string_value(value);
        if (field == NULL)
            return error_set(err, ERROR_BAD_REQUEST, "%.64s: no such field", key);
        if (text == NULL || strlen(text) != json_string_length(value))
            return error_set(err, ERROR_BAD_REQUEST, "%s: not a text", key);
        *field = text;
    }
    if (ret->password == NULL || (with_name && ret->name == NULL))
        return error_set(err, ERROR_BAD_REQUEST, "%s: missing",
                         ret->password == NULL ? "password" : "name");
    return true;
}

static json_t *user_json(const char *name, bool admin, int64_t created_ms)
{
    char created[CLOCK_RFC3339_LEN];

    clock_rfc3339(created_ms, created);
    return json_pack("{s:s, s:b, s:s}", "name", name, "admin", admin, "created_at", created);
}

/* ---- sign up, sign in ---- */

struct reply handle_sign_up(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    struct credentials given;
    struct error err = {0};
    struct user user;

    if (!has_users(app, req, &err) || !read_credentials(req, &body, true, &given, &err) ||
        !accounts_may_take(app, &req->context, given.name, &err) ||
        !users_add(app->users, given.name, given.password, req->context.deadline_ms, &user, &err))
        return reply_error(&err);
    return reply_private(201,
                         user_json(user.name, accounts_is_admin(&app->service.settings, user.name),
                                   user.created_ms));
}

struct reply handle_sign_in(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    struct credentials given;
    char address[PEER_MAX];
    struct error err = {0};

    if (!has_users(app, req, &err) || !read_credentials(req, &body, true, &given, &err))
        return reply_error(&err);
    request_client_address(req, app->service.settings.proxies, address);
    struct sign_in attempt = {.name = given.name, .password = given.password, .address = address};
    if (!accounts_sign_in(app, &req->context, &attempt, &err))
        return reply_error_until(&err, attempt.wait_ms);
    return reply_private(
        200, json_pack("{s:s, s:i}", "token", attempt.token, "expires_in", TOKEN_LIFE_S));
}

/* ---- the caller's own account ---- */

static bool is_guest(const struct request *req)
{
    return strchr(req->context.who, '@') != NULL;
}

/* An account of OpenID Connect has no row here. */
static bool is_own(const struct app *app, const struct request *req, struct error *err)
{
    return has_users(app, req, err) &&
           (!is_guest(req) ||
            error_set(err, ERROR_FORBIDDEN, "this account is its issuer's: change it there"));
}

struct reply handle_user(const struct app *app, const struct request *req)
{
    const char *who = req->context.who;
    struct error err = {0};
    struct user user;

    if (!has_users(app, req, &err))
        return reply_error(&err);
    if (is_guest(req))
        return reply_private(200, json_pack("{s:s, s:b, s:n}", "name", who, "admin",
                                            req->context.admin, "created_at"));
    if (!users_find(app->users, who, req->context.deadline_ms, &user, &err))
        return reply_error(&err);
    return reply_private(200, user_json(user.name, req->context.admin, user.created_ms));
}

struct reply handle_user_change(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    struct credentials given;
    char token[TOKEN_MAX];
    struct error err = {0};
    struct user user;

    if (!is_own(app, req, &err) || !read_credentials(req, &body, false, &given, &err) ||
        !users_set_password(app->users, req->context.who, given.password, req->context.deadline_ms,
                            &user, &err) ||
        !users_token(app->users, &user, token, &err))
        return reply_error(&err);
    json_t *json = user_json(user.name, req->context.admin, user.created_ms);
    json_object_set_new(json, "token", json_string(token));
    json_object_set_new(json, "expires_in", json_integer(TOKEN_LIFE_S));
    return reply_private(200, json);
}

struct reply handle_user_delete(const struct app *app, const struct request *req)
{
    struct error err = {0};

    if (!is_own(app, req, &err) ||
        !users_remove(app->users, req->context.who, req->context.deadline_ms, &err))
        return reply_error(&err);
    return reply_empty(204);
}
