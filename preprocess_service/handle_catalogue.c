/* GET /v1/images, GET, PATCH and DELETE /v1/images/{id}: the catalogue. */
#include "app.h"
#include "json_body.h"
#include "objects/object_name.h"

#include <string.h>

enum { CHANGE_BYTES_MAX = 64 * 1024 };

static bool has_catalogue(const struct app *app, struct error *err)
{
    return app->catalogue != NULL ||
           error_set(err, ERROR_NOT_FOUND, "there is no catalogue: CATALOGUE_URL is none:");
}

/* ---- the list ---- */

static bool read_filter(const struct app *app, const struct request *req,
                        struct catalogue_filter *ret, struct error *err)
{
    *ret = (struct catalogue_filter){.limit = CATALOGUE_LIMIT, .viewer = req->context.who};
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
            ret->owner = app->users != NULL && strcmp(value, "me") == 0 ? req->context.who : value;
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

    if (!has_catalogue(app, &err) || !read_filter(app, req, &filter, &err) ||
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

/* What is done to the picture of an owner; `change` NULL: it is deleted. */
static bool apply(const struct app *app, const struct request *req, const char *owner,
                  const struct catalogue_change *change, struct error *err)
{
    int64_t deadline_ms = req->context.deadline_ms;

    return change != NULL
               ? catalogue_change(app->catalogue, req->argument, owner, change, deadline_ms, err)
               : catalogue_delete(app->catalogue, req->argument, owner, deadline_ms, err);
}

/* To the caller's own; to that of another owner, when the caller is an admin. */
static bool apply_as_owner(const struct app *app, const struct request *req,
                           const struct catalogue_change *change, struct error *err)
{
    json_t *image = NULL;

    if (apply(app, req, req->context.who, change, err))
        return true;
    if (err->code != ERROR_NOT_FOUND || app->users == NULL ||
        !catalogue_find(app->catalogue, req->argument, req->context.admin ? NULL : req->context.who,
                        &image, req->context.deadline_ms, err))
        return false;
    const char *owner = json_string_value(json_object_get(image, "owner"));
    bool ok = req->context.admin
                  ? apply(app, req, owner != NULL ? owner : "", change, err)
                  : error_set(err, ERROR_FORBIDDEN, "this picture is somebody else's");
    json_decref(image);
    return ok;
}

struct reply handle_catalogue_change(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    struct catalogue_change change;
    struct error err = {0};

    if (!read_id(app, req, &err) || !json_body_read(req, CHANGE_BYTES_MAX, &body, &err) ||
        !read_change(body.object, &change, &err) || !apply_as_owner(app, req, &change, &err))
        return reply_error(&err);
    return reply_image(app, req);
}

struct reply handle_catalogue_delete(const struct app *app, const struct request *req)
{
    struct error err = {0};

    if (!read_id(app, req, &err) || !apply_as_owner(app, req, NULL, &err))
        return reply_error(&err);
    return reply_empty(204);
}
