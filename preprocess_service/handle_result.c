/* GET /results/{id} and /results/{id}.{ext}: what classify_service stored about an image, so that
 * one origin serves a whole page. A sealed one is its owner's. */
#include "app.h"
#include "app/stored_result.h"
#include "objects/object_name.h"
#include "sealed_access.h"

struct reply handle_result(const struct app *app, const struct request *req)
{
    struct object_name name;
    struct error err = {0};

    if (!request_has_no_query(req, &err))
        return reply_error(&err);
    bool sealed = object_name_parse(req->argument, &name) &&
                  may_read_sealed(app, &req->context, name.id, &err);
    if (err.code != ERROR_NONE && err.code != ERROR_NOT_FOUND)
        return reply_error(&err);
    return reply_stored_result_of(app->service.store, &req->context, req->argument, sealed);
}
