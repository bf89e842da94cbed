/* POST /signin; POST, GET, PUT and DELETE /user: accounts as the older manager has them. A name of
 * up to 20 characters is what people call the user, user_name is who signs in. */
#include "../json_body.h"
#include "manager.h"
#include "users/password.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { BODY_BYTES_MAX = 16 * 1024 };

struct fields {
    const char *name, *user_name, *password; /* borrowed from the body; NULL: not in it */
};

/* ---- what is in a body: the older manager's rules, in its words ---- */

struct rule {
    const char *field;
    int64_t min, max;
    bool alphanumeric;
};
static const struct rule name_rule = {"name", 2, 20, false};
static const struct rule user_name_rule = {"user_name", 3, 7, true};
static const struct rule password_rule = {"password", PASSWORD_MIN, PASSWORD_MAX, false};

/* Characters, not bytes. */
static int64_t length_of(const char *text)
{
    int64_t n = 0;

    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static bool is_alphanumeric(const char *text)
{
    while (isalnum((unsigned char)*text))
        text++;
    return *text == '\0';
}

static bool read_field(const json_t *body, const struct rule *rule, bool required, const char **ret,
                       struct error *err)
{
    const json_t *value = json_object_get(body, rule->field);
    const char *text = json_string_value(value);

    *ret = text;
    if (value == NULL)
        return !required || error_set(err, ERROR_BAD_REQUEST, "\"%s\" is required", rule->field);
    if (text == NULL || strlen(text) != json_string_length(value))
        return error_set(err, ERROR_BAD_REQUEST, "\"%s\" must be a string", rule->field);
    if (*text == '\0')
        return error_set(err, ERROR_BAD_REQUEST, "\"%s\" is not allowed to be empty", rule->field);
    if (rule->alphanumeric && !is_alphanumeric(text))
        return error_set(err, ERROR_BAD_REQUEST,
                         "\"%s\" must only contain alpha-numeric characters", rule->field);
    if (length_of(text) < rule->min)
        return error_set(err, ERROR_BAD_REQUEST,
                         "\"%s\" length must be at least %lld characters long", rule->field,
                         (long long)rule->min);
    return length_of(text) <= rule->max ||
           error_set(err, ERROR_BAD_REQUEST,
                     "\"%s\" length must be less than or equal to %lld characters long",
                     rule->field, (long long)rule->max);
}

static bool read_fields(const json_t *body, bool required, struct fields *ret, struct error *err)
{
    return read_field(body, &name_rule, required, &ret->name, err) &&
           read_field(body, &user_name_rule, required, &ret->user_name, err) &&
           read_field(body, &password_rule, required, &ret->password, err);
}

/* ---- ids ---- */

bool manager_user_id(const char *name, char out[MANAGER_ID_LEN + 1], struct error *err)
{
    char key[TOKEN_NAME_MAX + 1], hash[SHA256_HEX_LEN + 1];
    size_t i = 0;

    for (; i < TOKEN_NAME_MAX && name[i] != '\0'; i++)
        key[i] = (char)tolower((unsigned char)name[i]);
    key[i] = '\0';
    const struct bytes part = bytes_from_str(key);
    if (!string_sha256_hex(&part, 1, hash, err))
        return false;
    snprintf(out, MANAGER_ID_LEN + 1, "%.*s", MANAGER_ID_LEN, hash);
    return true;
}

/* ---- sign in, sign up ---- */

/* An unknown name is not told from a wrong password, unlike in the older manager. */
struct reply handle_manager_sign_in(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    char address[PEER_MAX];
    struct error err = {0};

    if (!manager_is_on(app, &err) || !json_body_read(req, BODY_BYTES_MAX, &body, &err))
        return reply_error(&err);
    request_client_address(req, app->service.settings.proxies, address);
    struct sign_in attempt = {
        .name = json_string_value(json_object_get(body.object, "user_name")),
        .password = json_string_value(json_object_get(body.object, "password")),
        .address = address,
    };
    if (attempt.name == NULL || attempt.password == NULL) {
        error_set(&err, ERROR_NOT_FOUND, "Not Found");
        return reply_error(&err);
    }
    if (accounts_sign_in(app, &req->context, &attempt, &err) &&
        manager_token(app, attempt.token, &err))
        return reply_private(200, json_pack("{s:s, s:s, s:b}", "token", attempt.token, "message",
                                            "success", "ok", true));
    if (err.code == ERROR_UNAUTHORIZED) {
        error_set(&err, ERROR_FORBIDDEN, "Incorrect Username or password");
        return manager_fault(402, &err);
    }
    return reply_error_until(&err, attempt.wait_ms);
}

/* AUTH_AUDIENCE guards the door to strangers here, too. */
static bool may_sign_up(const struct app *app, const struct request *req, struct manager_call *call,
                        struct error *err)
{
    *call = (struct manager_call){.req = *req};
    return *app->service.settings.auth_audience == '\0' ? manager_is_on(app, err)
                                                        : manager_begin(app, req, call, err);
}

struct reply handle_manager_sign_up(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    int64_t deadline_ms = req->context.deadline_ms;
    char id[MANAGER_ID_LEN + 1];
    struct manager_call call;
    struct fields given;
    struct error err = {0};
    struct user user;

    if (!may_sign_up(app, req, &call, &err))
        return reply_error(&err);
    /* two commits: between them the user is called by the user_name, and PUT mends it */
    if (!json_body_read(req, BODY_BYTES_MAX, &body, &err) ||
        !read_fields(body.object, true, &given, &err) ||
        !accounts_may_take(app, &call.req.context, given.user_name, &err) ||
        !users_add(app->users, given.user_name, given.password, deadline_ms, &user, &err) ||
        !users_set_full_name(app->users, user.name, given.name, deadline_ms, &err) ||
        !manager_user_id(user.name, id, &err))
        return manager_fault(500, &err);
    return reply_private(200, json_pack("{s:b, s:s}", "ok", true, "user_id", id));
}

/* ---- the caller's account ---- */

struct reply handle_manager_user(const struct app *app, const struct request *req)
{
    char id[MANAGER_ID_LEN + 1];
    struct manager_call call;
    struct error err = {0};
    struct user user;

    if (!manager_begin(app, req, &call, &err) ||
        !users_find(app->users, call.caller.name, req->context.deadline_ms, &user, &err) ||
        !manager_user_id(user.name, id, &err))
        return reply_error(&err);
    return reply_private(200,
                         json_pack("{s:b, s:{s:s, s:s, s:s}}", "ok", true, "data", "_id", id,
                                   "name", *user.full_name != '\0' ? user.full_name : user.name,
                                   "user_name", user.name));
}

/* A user_name owns pictures and is given once: it stays. */
static bool is_own_name(const struct manager_call *call, const char *user_name, struct error *err)
{
    return user_name == NULL || strcasecmp(user_name, call->caller.name) == 0 ||
           error_set(err, ERROR_BAD_REQUEST, "\"user_name\" cannot be changed");
}

struct reply handle_manager_user_change(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    int64_t deadline_ms = req->context.deadline_ms;
    char token[TOKEN_MAX] = "";
    struct manager_call call;
    struct fields given;
    struct error err = {0};
    struct user user;

    if (!manager_begin(app, req, &call, &err))
        return reply_error(&err);
    const char *who = call.caller.name;
    if (!json_body_read(req, BODY_BYTES_MAX, &body, &err) ||
        !read_fields(body.object, false, &given, &err) ||
        !is_own_name(&call, given.user_name, &err) ||
        (given.name != NULL &&
         !users_set_full_name(app->users, who, given.name, deadline_ms, &err)) ||
        (given.password != NULL &&
         (!users_set_password(app->users, who, given.password, deadline_ms, &user, &err) ||
          !users_token(app->users, &user, token, &err) || !manager_token(app, token, &err))))
        return manager_fault(500, &err);
    json_t *json = json_pack("{s:b, s:s}", "ok", true, "message", "user updated");
    if (*token != '\0') /* a new password makes older tokens void */
        json_object_set_new(json, "token", json_string(token));
    return reply_private(200, json);
}

struct reply handle_manager_user_delete(const struct app *app, const struct request *req)
{
    struct manager_call call;
    struct error err = {0};

    if (!manager_begin(app, req, &call, &err) ||
        !users_remove(app->users, call.caller.name, req->context.deadline_ms, &err))
        return reply_error(&err);
    return reply_private(200, json_pack("{s:b, s:s}", "ok", true, "message", "user deleted"));
}
