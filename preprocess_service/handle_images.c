/* GET /images/{id} and /images/{id}.{ext}: the stored bytes. GET /results/{id}: what is stored
 * about them. */
#include "app.h"
#include "app/stored_result.h"
#include "objects/object_name.h"
#include "pictures.h"

#include <string.h>

static bool not_found(struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "no such image");
}

/* Find the object; an id alone may have any of the formats. */
static bool find_object(const struct app *app, const struct request *req,
                        const struct object_name *asked, struct object_name *name, char *key,
                        struct store_info *info, struct error *err)
{
    for (size_t i = 0; object_name_candidate(asked, i, name); i++) {
        if (!object_key(store_prefix(app->service.store), name, key, STORE_KEY_MAX + 1, err))
            return false;
        if (name->sealed && !may_read_sealed(app, &req->context, name->id, err))
            return false;
        if (store_head(app->service.store, key, req->context.deadline_ms, info, err))
            return true;
        if (err->code != ERROR_NOT_FOUND)
            return false;
    }
    return not_found(err);
}

/* The range that is asked for: of GET only (RFC 9110, 14.2), and with If-Range only of these bytes.
 */
static struct byte_range asked_range(const struct request *req, const char *id, uint64_t size)
{
    const char *if_range = request_header(req, "If-Range");

    if (strcmp(req->method, "GET") != 0 ||
        (if_range != NULL && (*if_range != '"' || !etag_matches(if_range, id))))
        return range_parse(NULL, size);
    return range_parse(request_header(req, "Range"), size);
}

/* A 206, 200 or 416 of the object; the bytes are charged to the request's budget. */
static struct reply reply_object(const struct app *app, const struct request *req, const char *key,
                                 const struct store_info *info, const struct object_name *name)
{
    struct byte_range range = asked_range(req, name->id, info->size);
    uint64_t first = range.kind == RANGE_ONE ? range.first : 0;
    uint64_t len = range.kind == RANGE_ONE ? range.last - range.first + 1 : info->size;
    CLEANUP(buffer_done) struct buffer data = BUFFER_MAX((size_t)len);
    struct error err = {0};

    if (range.kind == RANGE_UNSATISFIABLE) {
        error_set(&err, ERROR_RANGE, "the image has %llu bytes", (unsigned long long)info->size);
        struct reply reply = reply_error(&err);
        reply_add_header(&reply, "Content-Range", "bytes */%llu", (unsigned long long)info->size);
        return reply;
    }
    if (len > INT64_MAX || !byte_budget_take(req->context.budget, (int64_t)len)) {
        error_set(&err, ERROR_OVERLOADED, "no room for %llu bytes", (unsigned long long)len);
        return reply_error(&err);
    }
    if (len > 0 && !store_get(app->service.store,
                              &(struct store_get){
                                  .key = key,
                                  .offset = first,
                                  .length = len,
                                  .max_bytes = (size_t)len,
                                  .deadline_ms = req->context.deadline_ms,
                              },
                              &data, NULL, &err)) {
        byte_budget_give(req->context.budget, (int64_t)len);
        return reply_error(&err);
    }
    struct reply reply = reply_buffer(range.kind == RANGE_ONE ? 206 : 200,
                                      image_format_content_type(name->format), &data);
    reply.charged_bytes = (int64_t)len;
    if (range.kind == RANGE_ONE)
        reply_add_header(&reply, "Content-Range", "bytes %llu-%llu/%llu",
                         (unsigned long long)range.first, (unsigned long long)range.last,
                         (unsigned long long)info->size);
    return reply;
}

/* The first bytes of a picture are a view of it; the rest of them is the same one. */
static void count_view(const struct app *app, const struct request *req, const struct reply *reply,
                       const char *id)
{
    bool begins = reply->status == 200 ||
                  (reply->status == 206 && asked_range(req, id, UINT64_MAX).first == 0);

    if (app->catalogue != NULL && begins && strcmp(req->method, "GET") == 0)
        catalogue_viewed(app->catalogue, id, req->context.who);
}

struct reply handle_images(const struct app *app, const struct request *req)
{
    char key[STORE_KEY_MAX + 1];
    struct store_info info = {0};
    struct object_name asked, name;
    struct error err = {0};

    if (!app->service.settings.images || !object_name_parse(req->argument, &asked)) {
        not_found(&err);
        return reply_error(&err);
    }
    if (!find_object(app, req, &asked, &name, key, &info, &err))
        return reply_error(&err);
    bool unchanged = request_has_etag(req, name.id);
    struct reply reply = unchanged ? reply_empty(304) : reply_object(app, req, key, &info, &name);
    if (reply.status >= 400)
        return reply;
    count_view(app, req, &reply, name.id);
    reply_add_header(&reply, "ETag", "\"%s\"", name.id);
    reply_add_header(&reply, "Cache-Control", "private, max-age=31536000, immutable");
    reply_add_header(&reply, "X-Content-Type-Options", "nosniff");
    reply_add_header(&reply, "Content-Security-Policy", "default-src 'none'; sandbox");
    reply_add_header(&reply, "Accept-Ranges", "bytes");
    return reply;
}

/* GET /results/{id} and /results/{id}.{ext}: what classify_service stored about an image, so that
 * one origin serves a whole page. A sealed one is its owner's. */
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
