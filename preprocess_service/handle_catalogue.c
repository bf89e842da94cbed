/* GET /v1/images, GET, PATCH and DELETE /v1/images/{id}: the catalogue. */
#include "app.h"
#include "base/json.h"
#include "objects/object_name.h"

#include <string.h>

enum { CHANGE_BYTES_MAX = 64 * 1024 };

static bool has_catalogue(const struct app *app, struct error *err)
{
    return app->catalogue != NULL ||
           error_set(err, ERROR_NOT_FOUND, "there is no catalogue: CATALOGUE_URL is none:");
}

/* ---- the list ---- */

static bool read_filter(const struct request *req, struct catalogue_filter *ret, struct error *err)
{
    *ret = (struct catalogue_filter){.limit = CATALOGUE_LIMIT};
    for (size_t i = 0; i < req->query_count; i++) {
        const char *name = req->query[i].name, *value = req->query[i].value;
        int64_t number = 0;

        if (!string_is_utf8(bytes_from_str(value)))
            return error_set(err, ERROR_BAD_REQUEST, "%.64s: not UTF-8", name);
        if (strcmp(name, "label") == 0)
            ret->label = value;
        else if (strcmp(name, "tag") == 0)
            ret->tag = value;
        else if (strcmp(name, "owner") == 0)
            ret->owner = value;
        else if (strcmp(name, "before") == 0) {
            if (!string_to_int64(value, 1, INT64_MAX, &ret->before))
                return error_set(err, ERROR_BAD_REQUEST, "before: not a cursor that next held");
        } else if (strcmp(name, "limit") == 0) {
            if (!string_to_int64(value, 1, CATALOGUE_LIMIT_MAX, &number))
                return error_set(err, ERROR_BAD_REQUEST, "limit: not a number from 1 to %d",
                                 CATALOGUE_LIMIT_MAX);
            ret->limit = (int)number;
        } else {
            return error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", name);
        }
    }
    return true;
}

struct reply handle_catalogue_list(const struct app *app, const struct request *req)
{
    struct catalogue_filter filter;
    json_t *images = NULL;
    int64_t next = 0;
    char cursor[24];
    struct error err = {0};

    if (!has_catalogue(app, &err) || !read_filter(req, &filter, &err) ||
        !catalogue_list(app->catalogue, &filter, &images, &next, req->context.deadline_ms, &err))
        return reply_error(&err);
    snprintf(cursor, sizeof(cursor), "%lld", (long long)next);
    return reply_json(200, json_pack("{s:o, s:o}", "images", images, "next",
                                     next != 0 ? json_string(cursor) : json_null()));
}

/* ---- one image ---- */

/* The id alone: a name with an extension is /images/'s. */
static bool read_id(const struct app *app, const struct request *req, struct error *err)
{
    if (!has_catalogue(app, err))
        return false;
    if (!string_is_sha256_hex(req->argument))
        return error_set(err, ERROR_NOT_FOUND, "no such image");
    return req->query_count == 0 ||
           error_set(err, ERROR_BAD_REQUEST, "%.64s: no such option", req->query[0].name);
}

static struct reply reply_image(const struct app *app, const struct request *req)
{
    json_t *image = NULL;
    struct error err = {0};

    if (!catalogue_find(app->catalogue, req->argument, req->context.who, &image,
                        req->context.deadline_ms, &err))
        return reply_error(&err);
    return reply_json(200, image);
}

struct reply handle_catalogue_image(const struct app *app, const struct request *req)
{
    struct error err = {0};

    return read_id(app, req, &err) ? reply_image(app, req) : reply_error(&err);
}

static bool read_change(json_t *json, struct catalogue_change *ret, struct error *err)
{
    const char *key;
    json_t *value;

    *ret = (struct catalogue_change){0};
    if (!json_is_object(json))
        return error_set(err, ERROR_BAD_REQUEST, "not a JSON object");
    json_object_foreach(json, key, value)
    {
        if (strcmp(key, "tags") == 0 && json_is_array(value))
            ret->tags = value;
        else if (strcmp(key, "note") == 0 && json_is_string(value))
            ret->note = json_string_value(value);
        else
            return error_set(err, ERROR_BAD_REQUEST,
                             "%.64s: neither tags (an array) nor note "
                             "(a text)",
                             key);
    }
    return true;
}

struct reply handle_catalogue_change(const struct app *app, const struct request *req)
{
    struct catalogue_change change;
    struct error err = {0};
    json_t *json = NULL;

    if (!read_id(app, req, &err))
        return reply_error(&err);
    if (req->body.len > CHANGE_BYTES_MAX) {
        error_set(&err, ERROR_TOO_LARGE, "over %d bytes", CHANGE_BYTES_MAX);
        return reply_error(&err);
    }
    int64_t cost = json_cost(req->body);
    if (!byte_budget_take(req->context.budget, cost)) {
        error_set(&err, ERROR_OVERLOADED, "no room to read JSON");
        return reply_error(&err);
    }
    json = json_read(req->body, 0, &err);
    bool ok = json != NULL && read_change(json, &change, &err) &&
              catalogue_change(app->catalogue, req->argument, req->context.who, &change,
                               req->context.deadline_ms, &err);
    json_decref(json);
    byte_budget_give(req->context.budget, cost);
    return ok ? reply_image(app, req) : reply_error(&err);
}

struct reply handle_catalogue_delete(const struct app *app, const struct request *req)
{
    struct error err = {0};

    if (!read_id(app, req, &err) ||
        !catalogue_delete(app->catalogue, req->argument, req->context.who, req->context.deadline_ms,
                          &err))
        return reply_error(&err);
    return reply_empty(204);
}
