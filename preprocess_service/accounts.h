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
/* From now on the service asks for users. */
void accounts_require(struct app *app);

/* Whether ADMINS has this name. Its account is made by an admin, or by the command. */
bool accounts_is_admin(const struct settings *settings, const char *name);
/* The address that a request comes from, at the other end of PROXIES proxies. */
void accounts_address(const struct settings *settings, const struct request *req, char *out,
                      size_t size);
