/* Who may call what, decided at a request's headers.
 *
 * Without users:
 * - /healthz, /readyz: everybody; OPTIONS, too, where CORS is on (a preflight has no credentials).
 * - /pubsub: PUSH_TOKEN, or a token for PUSH_AUDIENCE of PUSH_SERVICE_ACCOUNT. Neither set: as
 * below.
 * - the rest: a token for AUTH_AUDIENCE of one of AUTH_EMAILS, if these are set.
 * With users (USERS=on) the rest is what its route says (enum route_flags):
 * - ROUTE_OPEN: everybody.
 * - ROUTE_PUBLIC: everybody, unless AUTH_AUDIENCE is set; a token must be a good one.
 * - else: a user's token, or one for AUTH_AUDIENCE of one of AUTH_EMAILS.
 *
 * Thread-safe. Why somebody was refused goes to the log; the client learns only that. */
#pragma once

#include "app/settings.h"
#include "http/request.h"

struct authorizer;
struct http_client;

/* The settings and `client` (borrowed) must outlive it. Warns in the log of a /pubsub that is
 * open to all on Cloud Run. */
struct authorizer *authorizer_new(enum service_kind service, const struct settings *settings,
                                  struct http_client *client) NODISCARD;
void authorizer_free(struct authorizer *authorizer);

/* How users are asked: by functions, since one of the services has none. */
struct authorizer_users {
    void *ctx;
    /* Who a token is of; waits for nothing. ERROR_UNAUTHORIZED. */
    bool (*read)(void *ctx, const char *token, struct caller *ret, struct error *err);
    /* Whether it is still good. ERROR_UNAUTHORIZED, or a passing error. */
    bool (*confirm)(void *ctx, const struct caller *caller, int64_t deadline_ms, struct error *err);
    bool (*is_admin)(void *ctx, const char *name);
};
/* Before the first request. `users` is copied. */
void authorizer_use(struct authorizer *authorizer, const struct authorizer_users *users);

/* ERROR_UNAUTHORIZED: no or no valid credentials; ERROR_FORBIDDEN: those of somebody else; a
 * passing error when the issuer's keys cannot be had. May block until req->context.deadline_ms, for
 * at most 5 s, and seldom. *caller, zeroed before: with users, who it is. */
bool authorize(struct authorizer *authorizer, const struct request *req, struct caller *caller,
               struct error *err) NODISCARD;
/* Whether the caller's account is still there: the same errors. Blocks as long as the database
 * does. */
bool authorizer_confirm(struct authorizer *authorizer, const struct request *req,
                        const struct caller *caller, struct error *err) NODISCARD;
