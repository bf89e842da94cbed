/* GET /v1/images, GET, PATCH and DELETE /v1/images/{id}: the catalogue. */
#include "json_body.h"
#include "pictures.h"

#include <string.h>

enum { CHANGE_BYTES_MAX = 64 * 1024, REFUSED = -1 /* by pictures_list */ };

/* ---- the list ---- */

static bool read_filter(const struct request *req, struct catalogue_filter *ret, struct error *err)
{
    *ret = (struct catalogue_filter){0};
    for (size_t i = 0; i < req->query_count; i++) {
        const char *name = req->query[i].name, *value = req->query[i].value;
        int64_t number = 0;

        if (strcmp(name, "label") == 0)
            ret->label = value;
        else if (strcmp(name, "tag") == 0)
            ret->tag = value;
        else if (strcmp(name, "owner") == 0)
            ret->owner = value;
        else if (strcmp(name, "before") == 0) {
            if (!string_to_int64(value, 1, INT64_MAX, &ret->before))
                ret->before = REFUSED;
        } else if (strcmp(name, "limit") == 0) {
            bool ok = string_to_int64(value, 1, CATALOGUE_LIMIT_MAX, &number);
            ret->limit = ok ? (int)number : REFUSED;
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

    if (!read_filter(req, &filter, &err) ||
        !pictures_list(app, &req->context, &filter, &images, &next, &err))
        return reply_error(&err);
    snprintf(cursor, sizeof(cursor), "%lld", (long long)next);
    return reply_json(200, json_pack("{s:o, s:o}", "images", images, "next",
                                     next != 0 ? json_string(cursor) : json_null()));
}

/* ---- one image ---- */

struct reply handle_catalogue_image(const struct app *app, const struct request *req)
{
    json_t *image = NULL;
    struct error err = {0};

    if (!request_has_no_query(req, &err) ||
        !pictures_get(app, &req->context, req->argument, &image, &err))
        return reply_error(&err);
    return reply_json(200, image);
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

struct reply handle_catalogue_change(const struct app *app, const struct request *req)
{
    CLEANUP(json_body_done) struct json_body body = {0};
    struct catalogue_change change;
    json_t *image = NULL;
    struct error err = {0};

    if (!request_has_no_query(req, &err) || !json_body_read(req, CHANGE_BYTES_MAX, &body, &err) ||
        !read_change(body.object, &change, &err) ||
        !pictures_change(app, &req->context, req->argument, &change, &image, &err))
        return reply_error(&err);
    return reply_json(200, image);
}

struct reply handle_catalogue_delete(const struct app *app, const struct request *req)
{
    struct error err = {0};

    if (!request_has_no_query(req, &err) ||
        !pictures_delete(app, &req->context, req->argument, &err))
        return reply_error(&err);
    return reply_empty(204);
}
