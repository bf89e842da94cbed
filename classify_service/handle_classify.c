/* POST /classify: an object's URI, or the image itself; answered with labels. */
#include "classify.h"
#include "http/image_data.h"
#include "http/upload.h"

#include <string.h>

struct classify_params {
    int64_t top_k;
    struct bytes image;     /* when it came with the request */
    struct image_data data; /* what it is in, when it came as JSON */
    struct object object;   /* when a URI came; else its store is NULL */
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
 * posted as it is. Or {"image_data": "<base64>"}, as the older pipeline has it. */
static bool read_json(const struct app *app, const struct request *req, struct classify_params *ret,
                      struct error *err)
{
    if (!image_data_read(req, (size_t)app->service.settings.max_body_bytes, &ret->data, err))
        return false;
    const char *uri = json_string_value(json_object_get(ret->data.object, "gcs_path"));
    if (uri != NULL)
        return store_set_find(app->readable, uri, &ret->object.store, ret->object.key, err);
    ret->image = buffer_view(&ret->data.picture);
    return ret->image.len > 0 || error_set(err, ERROR_BAD_REQUEST,
                                           "image_data is required, or the URI of an object as "
                                           "gcs_path");
}

static bool read_upload(const struct request *req, struct upload *upload,
                        struct classify_params *ret, struct error *err)
{
    if (!upload_read(req, upload, err))
        return false;
    ret->image = upload->file;
    return true;
}

static bool read_params(const struct app *app, const struct request *req,
                        struct classify_params *ret, struct error *err)
{
    char type[MEDIA_TYPE_MAX];
    struct upload upload = {0};

    *ret = (struct classify_params){.top_k = TOP_K_DEFAULT};
    request_media_type(req, type);
    /* curl -d calls any body a form: what begins like a JSON object is taken as one */
    bool looks_like_json = req->body.len > 0 && req->body.data[0] == '{';
    bool json = strcmp(type, "application/json") == 0 ||
                (looks_like_json && (*type == '\0' || strcmp(type, "text/plain") == 0 ||
                                     strcmp(type, "application/x-www-form-urlencoded") == 0));
    return (json ? read_json(app, req, ret, err) : read_upload(req, &upload, ret, err)) &&
           upload_options(req, &upload, set_option, ret, err);
}

static void params_done(struct classify_params *params)
{
    image_data_done(&params->data);
}

struct reply handle_classify(const struct app *app, const struct request *req)
{
    struct error err = {0};
    CLEANUP(params_done) struct classify_params params;
    struct labels labels;
    CLEANUP(fetched_done) struct fetched fetched = {0};

    if (!read_params(app, req, &params, &err))
        return reply_error(&err);
    struct bytes image = params.image;
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
