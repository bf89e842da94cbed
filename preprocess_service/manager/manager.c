#include "manager.h"

#include <string.h>

bool manager_is_on(const struct app *app, struct error *err)
{
    return app->service.settings.image_manager_api ||
           error_set(err, ERROR_NOT_FOUND, "no such path; /openapi.json lists the paths");
}

/* The word behind the scheme's, whichever scheme; NULL: none, or two headers. */
static const char *second_word(const struct request *req)
{
    const char *given = request_only_header(req, "Authorization");

    given = given != NULL ? strchr(given, ' ') : NULL;
    return given != NULL && given[1] != '\0' ? given + 1 : NULL;
}

/* The words of the older manager, which its clients show. */
static bool refuse(const char *token, struct error *err)
{
    size_t dots = 0;

    if (error_is_passing(err->code))
        return false;
    for (const char *p = token; *p != '\0'; p++)
        dots += *p == '.';
    if (dots != 2)
        return error_set(err, ERROR_FORBIDDEN, "jwt malformed");
    return strstr(err->message, "expired") != NULL
               ? error_set(err, ERROR_FORBIDDEN, "jwt expired")
               : error_set(err, ERROR_FORBIDDEN, "invalid signature");
}

bool manager_begin(const struct app *app, const struct request *req, struct manager_call *call,
                   struct error *err)
{
    const char *token = second_word(req);
    struct token_subject subject;

    *call = (struct manager_call){.req = *req};
    if (!manager_is_on(app, err))
        return false;
    if (token == NULL)
        return error_set(err, ERROR_FORBIDDEN, "jwt must be provided");
    if (!manager_read_token(app, token, &subject, err) ||
        !accounts_identify(app, &subject, req->context.deadline_ms, &call->caller, err))
        return refuse(token, err);
    call->req.context.who = call->caller.name;
    call->req.context.admin = call->caller.admin;
    return true;
}

struct reply manager_fault(int status, const struct error *err)
{
    struct reply reply = reply_error(err);

    if (!error_is_passing(err->code))
        reply.status = status;
    return reply;
}
