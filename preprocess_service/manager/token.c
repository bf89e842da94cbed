/* Tokens as /v1/tokens has them, or by IMAGE_MANAGER_SECRET for programs that share it: then with
 * the claims of the older manager, and ours, without which a token would outlive its account. */
#include "auth/jwt.h"
#include "base/clock.h"
#include "base/json.h"
#include "manager.h"

#include <string.h>

static const char *secret_of(const struct app *app)
{
    return app->service.settings.image_manager_secret;
}

bool manager_token(const struct app *app, char token[TOKEN_MAX], struct error *err)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(TOKEN_MAX - 1);
    const json_int_t now_s = clock_wall_ms() / 1000;
    struct token_subject subject;
    char id[MANAGER_ID_LEN + 1];

    if (*secret_of(app) == '\0')
        return true;
    if (!users_read_token(app->users, token, &subject, err) ||
        !manager_user_id(subject.name, id, err) ||
        !jwt_sign_secret(json_pack("{s:s, s:s, s:I, s:I, s:I}", "_id", id, "sub", subject.name,
                                   "gen", (json_int_t)subject.generation, "iat", now_s, "exp",
                                   now_s + TOKEN_LIFE_S),
                         secret_of(app), &text, err))
        return false;
    snprintf(token, TOKEN_MAX, "%.*s", (int)text.len, (const char *)text.data);
    return true;
}

static bool read_claims(const json_t *claims, struct token_subject *ret, struct error *err)
{
    const char *name = json_string_value(json_object_get(claims, "sub"));
    const json_t *generation = json_object_get(claims, "gen"),
                 *expires = json_object_get(claims, "exp");

    if (name == NULL || strlen(name) > TOKEN_NAME_MAX || !json_is_integer(generation) ||
        !json_is_integer(expires))
        return error_set(err, ERROR_UNAUTHORIZED, "the token is not a user's");
    if (json_integer_value(expires) <= clock_wall_ms() / 1000)
        return error_set(err, ERROR_UNAUTHORIZED, "the token has expired");
    snprintf(ret->name, sizeof(ret->name), "%s", name);
    ret->generation = json_integer_value(generation);
    return true;
}

bool manager_read_token(const struct app *app, const char *token, struct token_subject *ret,
                        struct error *err)
{
    CLEANUP(jwt_done) struct jwt jwt = {0};
    struct error other = {0};

    if (*secret_of(app) == '\0' || !jwt_read(token, JWT_HS256, &jwt, &other))
        return users_read_token(app->users, token, ret, err);
    json_t *claims = jwt_verify_secret(&jwt, secret_of(app), err) ? jwt_claims(&jwt, err) : NULL;
    bool ok = claims != NULL && read_claims(claims, ret, err);
    json_decref(claims);
    return ok;
}
