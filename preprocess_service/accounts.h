/* Users in this service (USERS=on): opened by the settings, their passwords worked on by the pool,
 * their tokens told to the authorizer. */
#pragma once

#include "app.h"
#include "app/settings.h"
#include "users/users.h"

/* As the settings name them. NULL on failure; `compute` as in users.h, NULL for a command, which
 * works on its own thread. */
struct users *accounts_open(const struct settings *settings, struct app *app,
                            struct error *err) NODISCARD;
/* Whether the name was a user's at that time (wall clock): for the catalogue, whose context is a
 * struct users; NULL: USERS=off, where none can be asked. Names of OpenID Connect always were. */
bool accounts_had(void *users, const char *name, int64_t at_ms, bool *ret,
                  struct error *err) NODISCARD;
/* From now on the service asks for users. */
void accounts_require(struct app *app);

/* Whether ADMINS has this name. Its account is made by an admin, or by the command. */
bool accounts_is_admin(const struct settings *settings, const char *name);
/* A stranger does not become an admin by being the first to take the name. ERROR_CONFLICT. */
bool accounts_may_take(const struct app *app, const struct context *ctx, const char *name,
                       struct error *err) NODISCARD;
/* users_sign_in with its metric and log line. */
bool accounts_sign_in(const struct app *app, const struct context *ctx, struct sign_in *attempt,
                      struct error *err) NODISCARD;
/* Who a token's subject is, with the account still there; `app` has users. ERROR_UNAUTHORIZED. */
bool accounts_identify(const struct app *app, const struct token_subject *subject,
                       int64_t deadline_ms, struct caller *ret, struct error *err) NODISCARD;
