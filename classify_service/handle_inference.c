/* Open Inference Protocol v2: what there is, and whether it is ready. */
#include "inference.h"

#include <string.h>

const char inference_image_name[] = "image";
const char inference_tensor_name[] = "tensor";
const char inference_output_name[] = "scores";

void inference_tensor_shape(const struct manifest *manifest, json_int_t items,
                            json_int_t shape[INFERENCE_DIMENSIONS_MAX])
{
    const struct image_tensor_spec *spec = &manifest->input;

    shape[0] = items;
    shape[1] = spec->nchw ? 3 : spec->height;
    shape[2] = spec->nchw ? spec->height : spec->width;
    shape[3] = spec->nchw ? spec->width : 3;
}

bool inference_names_model(const struct app *app, const struct request *req, struct reply *reply)
{
    const char *name = model_manifest(app->model)->name;
    size_t len = strcspn(req->argument, "/");
    struct error err;

    if (len == strlen(name) && strncmp(req->argument, name, len) == 0)
        return true;
    error_set(&err, ERROR_NOT_FOUND, "no such model; there is %s", name);
    *reply = reply_error(&err);
    return false;
}

struct reply handle_inference_server(const struct app *app, const struct request *req)
{
    (void)req;
    return reply_json(200, json_pack("{s:s, s:s, s:[s, s]}", "name", app->service.name, "version",
                                     DARKROOM_VERSION, "extensions", "binary_tensor_data",
                                     "classification"));
}

struct reply handle_inference_live(const struct app *app, const struct request *req)
{
    (void)app;
    (void)req;
    return reply_json(200, json_pack("{s:b}", "live", 1));
}

struct reply handle_inference_ready(const struct app *app, const struct request *req)
{
    struct reply reply = handle_readyz(app, req);
    bool ready = reply.status == 200;

    reply_done(&reply);
    if (ready)
        return reply_json(200, json_pack("{s:b, s:b}", "live", 1, "ready", 1));
    reply = reply_json(503, json_pack("{s:b, s:b, s:s}", "live", 1, "ready", 0, "error",
                                      "not ready; GET /readyz says why"));
    reply_add_header(&reply, "Retry-After", "1");
    return reply;
}

struct reply handle_inference_model(const struct app *app, const struct request *req)
{
    const struct manifest *manifest = model_manifest(app->model);
    json_int_t shape[INFERENCE_DIMENSIONS_MAX];
    struct reply reply;

    if (!inference_names_model(app, req, &reply))
        return reply;
    inference_tensor_shape(manifest, -1, shape);
    return reply_json(
        200,
        json_pack("{s:s, s:[s], s:s, s:[{s:s, s:s, s:[i, i]}, {s:s, s:s, s:[I, I, I, I]}],"
                  " s:[{s:s, s:s, s:[i, I]}]}",
                  "name", manifest->name, "versions", INFERENCE_VERSION, "platform",
                  "onnxruntime_onnx", "inputs", "name", inference_image_name, "datatype", "BYTES",
                  "shape", -1, 1, "name", inference_tensor_name, "datatype", "FP32", "shape",
                  shape[0], shape[1], shape[2], shape[3], "outputs", "name", inference_output_name,
                  "datatype", "FP32", "shape", -1, (json_int_t)manifest->label_count));
}

struct reply handle_inference_model_ready(const struct app *app, const struct request *req)
{
    struct reply reply;

    if (!inference_names_model(app, req, &reply))
        return reply;
    return reply_json(
        200, json_pack("{s:s, s:b}", "name", model_manifest(app->model)->name, "ready", 1));
}
