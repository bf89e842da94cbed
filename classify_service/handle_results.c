/* GET /results/{id}, /results/{id}.{ext}, /results?gcs_path=<uri>: the stored result; 202 while the
 * object exists and its result does not. Not those of sealed objects: this service knows no owners.
 */
#include "app.h"
#include "app/stored_result.h"

#include <string.h>

/* Only gcs_path, once, and not together with an id. */
static bool check_query(const struct request *req, struct error *err)
{
    for (size_t i = 0; i < req->query_count; i++) {
        if (strcmp(req->query[i].name, "gcs_path") != 0)
            return error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", req->query[i].name);
        if (i > 0 || *req->argument != '\0')
            return error_set(err, ERROR_BAD_REQUEST, "gcs_path: given twice, or with an id");
    }
    return *req->argument != '\0' || req->query_count > 0 ||
           error_set(err, ERROR_BAD_REQUEST, "gcs_path: missing; or GET /results/{id}");
}

struct reply handle_results(const struct app *app, const struct request *req)
{
    struct object object;
    struct error err = {0};

    if (!check_query(req, &err))
        return reply_error(&err);
    if (*req->argument != '\0')
        return reply_stored_result_of(app->service.store, &req->context, req->argument, false);
    if (!store_set_find(app->readable, request_query(req, "gcs_path"), &object.store, object.key,
                        &err))
        return reply_error(&err);
    return reply_stored_result(object.store, &req->context, object.key, false);
}
