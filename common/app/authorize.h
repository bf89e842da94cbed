/* Who may call what, decided at a request's headers.
 *
 * - /healthz, /readyz: everybody; OPTIONS, too, where CORS is on (a preflight has no credentials).
 * - /pubsub: PUSH_TOKEN, or a token for PUSH_AUDIENCE of PUSH_SERVICE_ACCOUNT. Neither set: as
 * below.
 * - the rest: a token for AUTH_AUDIENCE of one of AUTH_EMAILS, if these are set.
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

/* ERROR_UNAUTHORIZED: no or no valid credentials; ERROR_FORBIDDEN: those of somebody else; a
 * passing error when the issuer's keys cannot be had. May block until req->context.deadline_ms, for
 * at most 5 s, and seldom. */
bool authorize(struct authorizer *authorizer, const struct request *req,
               struct error *err) NODISCARD;
