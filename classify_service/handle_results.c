/* GET /results/{id}, /results/{id}.{ext}, /results?gcs_path=<uri>: the stored result; 202 while the
 * object exists and its result does not. */
#include "app.h"
#include "objects/object_name.h"
#include "objects/result_key.h"
#include "result.h"

#include <string.h>

static struct reply not_found(void)
{
    struct error err;

    error_set(&err, ERROR_NOT_FOUND, "no such object");
    return reply_error(&err);
}

static struct reply pending(void)
{
    struct reply reply = reply_json(202, json_pack("{s:s}", "status", "pending"));

    reply_add_header(&reply, "Retry-After", "1");
    return reply;
}

/* The reply about one object: 200, 202 or 404. */
static struct reply result_of(const struct request *req, struct store *store, const char *key)
{
    struct buffer data = BUFFER_MAX(RESULT_BYTES_MAX);
    struct error err = {0};
    char json_key[STORE_KEY_MAX + 1];

    if (!result_key(key, json_key, sizeof(json_key), &err))
        return reply_error(&err);
    if (store_get(store,
                  &(struct store_get){.key = json_key,
                                      .max_bytes = RESULT_BYTES_MAX,
                                      .deadline_ms = req->context.deadline_ms},
                  &data, NULL, &err))
        return reply_buffer(200, "application/json", &data);
    buffer_done(&data);
    if (err.code != ERROR_NOT_FOUND)
        return reply_error(&err);
    if (store_head(store, key, req->context.deadline_ms, NULL, &err))
        return pending();
    return err.code == ERROR_NOT_FOUND ? not_found() : reply_error(&err);
}

static struct reply result_of_name(const struct app *app, const struct request *req)
{
    struct object_name name;
    char key[STORE_KEY_MAX + 1];
    struct error err = {0};

    if (!object_name_parse(req->argument, &name))
        return not_found();
    for (size_t i = 0; i < OBJECT_FORMATS; i++) {
        if (name.format != IMAGE_UNKNOWN && name.format != object_formats[i])
            continue;
        if (!object_key(store_prefix(app->service.store), name.id, object_formats[i], key,
                        sizeof(key), &err))
            return reply_error(&err);
        struct reply reply = result_of(req, app->service.store, key);
        if (reply.status != 404)
            return reply;
        reply_done(&reply);
    }
    return not_found();
}

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
        return result_of_name(app, req);
    if (!store_set_find(app->readable, request_query(req, "gcs_path"), &object.store, object.key,
                        &err))
        return reply_error(&err);
    return result_of(req, object.store, object.key);
}
