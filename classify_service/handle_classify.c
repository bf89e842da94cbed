/* POST /classify: an object's URI, or the image itself; answered with labels. */
#include "base/json.h"
#include "classify.h"
#include "http/encoding.h"
#include "http/upload.h"

#include <string.h>

enum { JSON_BYTES_MAX = 65536 }; /* a tree of values takes many times its text's memory */

struct classify_params {
    int64_t top_k;
    struct upload upload; /* the image, when it came with the request */
    struct object object; /* when a URI came; else its store is NULL */
};

static bool set_option(void *ctx, const char *name, const char *value, struct error *err)
{
    struct classify_params *params = ctx;

    if (strcmp(name, "top_k") != 0)
        return error_set(err, ERROR_NOT_FOUND, "no such option");
    return string_to_int64(value, 1, TOP_K_MAX, &params->top_k) ||
           error_set(err, ERROR_BAD_REQUEST, "top_k: not a whole number from 1 to %d", TOP_K_MAX);
}

/* {"gcs_path": "<object uri>"}; unknown fields are ignored, so that the reply of /preprocess can be
 * posted as it is. */
static bool read_uri(const struct app *app, const struct request *req,
                     struct classify_params *params, struct error *err)
{
    CLEANUP(decoded_body_done) struct decoded_body body = {0};
    struct error malformed;

    if (req->body.len > JSON_BYTES_MAX)
        return error_set(err, ERROR_TOO_LARGE, "a JSON body of more than %d bytes", JSON_BYTES_MAX);
    if (!body_decode(req, JSON_BYTES_MAX, &body, err))
        return false;
    json_t *json = json_read(body.bytes, 0, &malformed);
    const char *uri = json_string_value(json_object_get(json, "gcs_path"));
    bool ok = uri != NULL ? store_set_find(app->readable, uri, &params->object.store,
                                           params->object.key, err)
                          : error_set(err, ERROR_BAD_REQUEST,
                                      "the body is no JSON object with a string gcs_path");

    json_decref(json);
    return ok;
}

static bool read_params(const struct app *app, const struct request *req,
                        struct classify_params *ret, struct error *err)
{
    char type[MEDIA_TYPE_MAX];

    *ret = (struct classify_params){.top_k = TOP_K_DEFAULT};
    request_media_type(req, type);
    /* curl -d calls any body a form: what begins like a JSON object is taken as one */
    bool looks_like_json = req->body.len > 0 && req->body.data[0] == '{';
    bool json = strcmp(type, "application/json") == 0 ||
                (looks_like_json && (*type == '\0' || strcmp(type, "text/plain") == 0 ||
                                     strcmp(type, "application/x-www-form-urlencoded") == 0));
    if (!(json ? read_uri(app, req, ret, err) : upload_read(req, &ret->upload, err)))
        return false;
    return upload_options(req, &ret->upload, set_option, ret, err);
}

struct reply handle_classify(const struct app *app, const struct request *req)
{
    struct error err = {0};
    struct classify_params params;
    struct labels labels;
    CLEANUP(fetched_done) struct fetched fetched = {0};

    if (!read_params(app, req, &params, &err))
        return reply_error(&err);
    struct bytes image = params.upload.file;
    if (params.object.store != NULL) {
        if (!fetch_info(&req->context, &params.object, &fetched, &err) ||
            !fetch_data(app, &req->context, &params.object, &fetched, &err))
            return reply_error(&err);
        image = buffer_view(&fetched.data);
    }
    if (!classify_image(app, &req->context, image, (size_t)params.top_k, &labels, &err))
        return reply_error(&err);
    return reply_json(200, labels_to_json(model_manifest(app->model), &labels));
}
