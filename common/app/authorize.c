#include "app/authorize.h"

#include "auth/oidc.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/xmalloc.h"

#include <string.h>
#include <strings.h>

struct authorizer {
    struct oidc_guests push, others; /* an empty audience: nobody by OIDC */
    const char *push_token;          /* "": nobody by it */
    bool preflight;
    struct oidc *oidc; /* NULL when nobody comes by OIDC */
    struct authorizer_users users;
};

static bool has_audience(const struct oidc_guests *guests)
{
    return *guests->audience != '\0';
}

static struct oidc *open_oidc(const struct settings *s, struct http_client *client)
{
    bool google = strcmp(s->oidc_issuer, OIDC_GOOGLE_ISSUER + strlen("https://")) == 0;

    return oidc_new(&(struct oidc_options){.client = client,
                                           .issuer = google ? OIDC_GOOGLE_ISSUER : s->oidc_issuer,
                                           .jwks_url = s->oidc_jwks_url});
}

static void warn_if_open(const struct authorizer *a)
{
    const char *instance = getenv("K_SERVICE");

    if (instance != NULL && *instance != '\0' && *a->push_token == '\0' && a->oidc == NULL)
        log_warning("/pubsub is open to all, unless Cloud Run's IAM guards it: if callers need no "
                    "authentication, set PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT");
}

struct authorizer *authorizer_new(enum service_kind service, const struct settings *s,
                                  struct http_client *client)
{
    struct authorizer *a = xcalloc(1, sizeof(*a));
    bool pushed_to = service == SERVICE_CLASSIFY;

    *a = (struct authorizer){
        .push = {.audience = pushed_to ? s->push_audience : "",
                 .emails = pushed_to ? s->push_service_account : ""},
        .others = {.audience = s->auth_audience, .emails = s->auth_emails},
        .push_token = s->push_token,
        .preflight = *s->cors_origins != '\0',
    };
    if (has_audience(&a->push) || has_audience(&a->others))
        a->oidc = open_oidc(s, client);
    if (pushed_to)
        warn_if_open(a);
    return a;
}

void authorizer_use(struct authorizer *a, const struct authorizer_users *users)
{
    a->users = *users;
}

void authorizer_free(struct authorizer *a)
{
    if (a == NULL)
        return;
    oidc_free(a->oidc);
    free(a);
}

/* ---- one request ---- */

/* The Bearer credentials (RFC 6750, 2.1), or NULL: none, of another kind, or more than one. */
static const char *bearer(const struct request *req)
{
    static const char scheme[] = "Bearer ";
    const char *given = request_only_header(req, "Authorization");

    if (given == NULL || strncasecmp(given, scheme, strlen(scheme)) != 0)
        return NULL;
    given += strlen(scheme);
    given += strspn(given, " ");
    return *given != '\0' ? given : NULL;
}

/* What the client is told; the reason is for the log. */
static bool refuse(const struct request *req, struct error *err)
{
    if (error_is_passing(err->code))
        return false;
    log_info("refused", F("reason", (const char *)err->message), F("route", req->route),
             F("request_id", req->context.id));
    return err->code == ERROR_FORBIDDEN
               ? error_set(err, ERROR_FORBIDDEN, "this account may not do this")
               : error_set(err, ERROR_UNAUTHORIZED, "no valid credentials");
}

/* An account of OpenID Connect. */
static bool check_guest(struct authorizer *a, const struct request *req, const char *token,
                        const struct oidc_guests *guests, struct caller *caller, struct error *err)
{
    char email[OIDC_EMAIL_MAX + 1];

    if (!oidc_verify(a->oidc, token, guests, req->context.deadline_ms, email, err))
        return false;
    if (a->users.read != NULL) {
        snprintf(caller->name, sizeof(caller->name), "%s", email);
        caller->admin = a->users.is_admin(a->users.ctx, email);
    }
    return true;
}

static bool check(struct authorizer *a, const struct request *req, const char *push_token,
                  const struct oidc_guests *guests, struct caller *caller, struct error *err)
{
    const char *token = bearer(req);

    if (token == NULL)
        error_set(err, ERROR_UNAUTHORIZED, "not one Bearer authorization");
    else if (*push_token != '\0' && string_equal_constant_time(token, push_token))
        return true;
    else if (!has_audience(guests))
        error_set(err, ERROR_UNAUTHORIZED, "not the PUSH_TOKEN");
    else if (check_guest(a, req, token, guests, caller, err))
        return true;
    return refuse(req, err);
}

/* A user's token says so itself (EdDSA); whatever is none is an issuer's, where there is one. */
static bool check_user(struct authorizer *a, const struct request *req, struct caller *caller,
                       struct error *err)
{
    const char *token = bearer(req);
    struct error why = {0};

    if ((req->flags & ROUTE_OPEN) != 0 ||
        (token == NULL && (req->flags & ROUTE_PUBLIC) != 0 && !has_audience(&a->others)))
        return true;
    if (token == NULL)
        error_set(err, ERROR_UNAUTHORIZED, "not one Bearer authorization");
    else if (a->users.read(a->users.ctx, token, caller, err))
        return true;
    else if (has_audience(&a->others) && check_guest(a, req, token, &a->others, caller, &why))
        return true;
    if (why.code != ERROR_NONE && why.code != ERROR_UNAUTHORIZED)
        *err = why;
    return refuse(req, err);
}

static bool is_open(const struct authorizer *a, const struct request *req)
{
    if (strcmp(req->method, "OPTIONS") == 0)
        return a->preflight;
    return strcmp(req->route, "/healthz") == 0 || strcmp(req->route, "/readyz") == 0 ||
           strcmp(req->route, "/grpc.health.v1.Health/Check") == 0 ||
           strcmp(req->route, "/grpc.health.v1.Health/Watch") == 0;
}

bool authorize(struct authorizer *a, const struct request *req, struct caller *caller,
               struct error *err)
{
    if (is_open(a, req))
        return true;
    if (strcmp(req->route, "/pubsub") == 0 && (*a->push_token != '\0' || has_audience(&a->push)))
        return check(a, req, a->push_token, &a->push, caller, err);
    if (a->users.read != NULL)
        return check_user(a, req, caller, err);
    return !has_audience(&a->others) || check(a, req, "", &a->others, caller, err);
}

bool authorizer_confirm(struct authorizer *a, const struct request *req,
                        const struct caller *caller, struct error *err)
{
    return caller->generation == 0 ||
           a->users.confirm(a->users.ctx, caller, req->context.deadline_ms, err) ||
           refuse(req, err);
}
