/* GET /results/{id} and /results/{id}.{ext}: what classify_service stored about an image, so that
 * one origin serves a whole page. */
#include "app.h"
#include "app/stored_result.h"

struct reply handle_result(const struct app *app, const struct request *req)
{
    struct error err = {0};

    if (req->query_count > 0) {
        error_set(&err, ERROR_BAD_REQUEST, "%.64s: no such option", req->query[0].name);
        return reply_error(&err);
    }
    return reply_stored_result_of(app->service.store, &req->context, req->argument);
}
