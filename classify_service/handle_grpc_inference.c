/* inference.GRPCInferenceService: the Open Inference Protocol as calls, over the same functions as
 * handle_inference.c and handle_infer.c. */
#include "base/xmalloc.h"
#include "grpc/message.h"
#include "inference.h"
#include "inference.pb-c.h"

#include <string.h>

typedef Inference__ModelInferRequest infer_message;
typedef Inference__ModelMetadataResponse__TensorMetadata tensor_message;

static bool names_model(const struct app *app, const char *name, const char *version,
                        struct error *err)
{
    const char *ours = model_manifest(app->model)->name;

    if (strcmp(name, ours) != 0)
        return error_set(err, ERROR_NOT_FOUND, "no such model; there is %s", ours);
    return *version == '\0' || strcmp(version, INFERENCE_VERSION) == 0 ||
           error_set(err, ERROR_NOT_FOUND, "no such version; there is " INFERENCE_VERSION);
}

/* ---- what there is ---- */

struct reply handle_grpc_server_live(const struct app *app, const struct request *req)
{
    Inference__ServerLiveResponse out = INFERENCE__SERVER_LIVE_RESPONSE__INIT;

    (void)app;
    out.live = 1;
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_server_ready(const struct app *app, const struct request *req)
{
    Inference__ServerReadyResponse out = INFERENCE__SERVER_READY_RESPONSE__INIT;

    out.ready = service_failing(&app->service) == NULL;
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_server_metadata(const struct app *app, const struct request *req)
{
    Inference__ServerMetadataResponse out = INFERENCE__SERVER_METADATA_RESPONSE__INIT;
    char *extensions[] = {grpc_text("binary_tensor_data"), grpc_text("classification")};

    out.name = grpc_text(app->service.name);
    out.version = grpc_text(DARKROOM_VERSION);
    out.extensions = extensions;
    out.n_extensions = ARRAY_SIZE(extensions);
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_model_ready(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    Inference__ModelReadyResponse out = INFERENCE__MODEL_READY_RESPONSE__INIT;
    struct error err = {0};

    if (!grpc_message_read(&inference__model_ready_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const Inference__ModelReadyRequest *in = (const Inference__ModelReadyRequest *)m.message;
    if (!names_model(app, in->name, in->version, &err))
        return reply_error(&err);
    out.ready = 1;
    return grpc_reply(req, &out.base);
}

static struct reply reply_metadata(const struct request *req, const struct manifest *manifest)
{
    Inference__ModelMetadataResponse out = INFERENCE__MODEL_METADATA_RESPONSE__INIT;
    tensor_message image = INFERENCE__MODEL_METADATA_RESPONSE__TENSOR_METADATA__INIT;
    tensor_message tensor = image, scores = image;
    tensor_message *inputs[] = {&image, &tensor}, *outputs[] = {&scores};
    int64_t image_shape[] = {-1, 1}, scores_shape[] = {-1, (int64_t)manifest->label_count};
    int64_t tensor_shape[INFERENCE_DIMENSIONS_MAX];
    json_int_t shape[INFERENCE_DIMENSIONS_MAX];
    char *versions[] = {grpc_text(INFERENCE_VERSION)};
    CLEANUP_FREE char *name = xstrdup(manifest->name);

    inference_tensor_shape(manifest, -1, shape);
    for (size_t i = 0; i < INFERENCE_DIMENSIONS_MAX; i++)
        tensor_shape[i] = shape[i];
    image.name = grpc_text(inference_image_name);
    image.datatype = grpc_text("BYTES");
    image.shape = image_shape;
    image.n_shape = ARRAY_SIZE(image_shape);
    tensor.name = grpc_text(inference_tensor_name);
    tensor.datatype = grpc_text("FP32");
    tensor.shape = tensor_shape;
    tensor.n_shape = ARRAY_SIZE(tensor_shape);
    scores.name = grpc_text(inference_output_name);
    scores.datatype = grpc_text("FP32");
    scores.shape = scores_shape;
    scores.n_shape = ARRAY_SIZE(scores_shape);
    out.name = name;
    out.platform = grpc_text("onnxruntime_onnx");
    out.versions = versions;
    out.n_versions = ARRAY_SIZE(versions);
    out.inputs = inputs;
    out.n_inputs = ARRAY_SIZE(inputs);
    out.outputs = outputs;
    out.n_outputs = ARRAY_SIZE(outputs);
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_model_metadata(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    struct error err = {0};

    if (!grpc_message_read(&inference__model_metadata_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const Inference__ModelMetadataRequest *in = (const Inference__ModelMetadataRequest *)m.message;
    if (!names_model(app, in->name, in->version, &err))
        return reply_error(&err);
    return reply_metadata(req, model_manifest(app->model));
}

/* ---- ModelInfer ---- */

static bool read_raw(const struct manifest *manifest, const infer_message *in,
                     struct inference_request *ret, struct error *err)
{
    struct bytes raw = bytes_of(in->raw_input_contents[0].data, in->raw_input_contents[0].len);

    return ret->is_tensor ? inference_split_tensors(raw, manifest_input_count(manifest), ret, err)
                          : inference_split_images(raw, ret, err);
}

static bool read_typed(const struct manifest *manifest,
                       const Inference__InferTensorContents *contents,
                       struct inference_request *ret, struct error *err)
{
    if (ret->is_tensor)
        return inference_split_tensors(
            bytes_of(contents->fp32_contents, contents->n_fp32_contents * sizeof(float)),
            manifest_input_count(manifest), ret, err);
    if (contents->n_bytes_contents != ret->items)
        return error_set(err, ERROR_BAD_REQUEST,
                         "bytes_contents must have one image for each item");
    for (size_t i = 0; i < ret->items; i++)
        ret->binary[i] =
            bytes_of(contents->bytes_contents[i].data, contents->bytes_contents[i].len);
    return true;
}

static bool read_input(const struct manifest *manifest, const infer_message *in,
                       struct inference_request *ret, struct error *err)
{
    if (in->n_inputs != 1)
        return error_set(err, ERROR_BAD_REQUEST, "inputs must have exactly one input");
    const Inference__ModelInferRequest__InferInputTensor *input = in->inputs[0];
    if (!inference_set_kind(input->name, input->datatype, ret, err) ||
        !inference_set_shape(manifest, input->shape, input->n_shape, ret, err))
        return false;
    if ((in->n_raw_input_contents == 1) == (input->contents != NULL) ||
        in->n_raw_input_contents > 1)
        return error_set(err, ERROR_BAD_REQUEST,
                         "the input needs either contents or one raw_input_contents");
    return input->contents == NULL ? read_raw(manifest, in, ret, err)
                                   : read_typed(manifest, input->contents, ret, err);
}

static bool read_output(const struct manifest *manifest, const infer_message *in,
                        struct inference_request *ret, struct error *err)
{
    const int64_t most = inference_classes_max(manifest);

    if (in->n_outputs > 1)
        return error_set(err, ERROR_BAD_REQUEST, "outputs must have at most one output");
    if (in->n_outputs == 0)
        return true;
    const Inference__ModelInferRequest__InferRequestedOutputTensor *output = in->outputs[0];
    if (!inference_check_output(output->name, err))
        return false;
    for (size_t i = 0; i < output->n_parameters; i++) {
        const Inference__InferParameter *value = output->parameters[i]->value;
        if (strcmp(output->parameters[i]->key, "classification") != 0)
            continue;
        bool is_number =
            value != NULL && value->parameter_choice_case ==
                                 INFERENCE__INFER_PARAMETER__PARAMETER_CHOICE_INT64_PARAM;
        if (!is_number || value->int64_param < 0 || value->int64_param > most)
            return error_set(err, ERROR_BAD_REQUEST,
                             "the parameter classification must be a whole number from 0 to %lld",
                             (long long)most);
        ret->classes = (size_t)value->int64_param;
    }
    return true;
}

static struct reply reply_infer(const struct request *req, const struct manifest *manifest,
                                const char *id, const struct inference_request *request,
                                const float *scores)
{
    Inference__ModelInferResponse out = INFERENCE__MODEL_INFER_RESPONSE__INIT;
    Inference__ModelInferResponse__InferOutputTensor output =
        INFERENCE__MODEL_INFER_RESPONSE__INFER_OUTPUT_TENSOR__INIT;
    Inference__ModelInferResponse__InferOutputTensor *outputs[] = {&output};
    size_t columns = request->classes > 0 ? request->classes : manifest->label_count;
    int64_t shape[] = {(int64_t)request->items, (int64_t)columns};
    CLEANUP(buffer_done) struct buffer bytes = {0};
    struct error err = {0};

    if (!inference_output_bytes(manifest, request, scores, &bytes, &err))
        return reply_error(&err);
    ProtobufCBinaryData raw = {.data = bytes.data, .len = bytes.len};
    output.name = grpc_text(inference_output_name);
    output.datatype = grpc_text(request->classes > 0 ? "BYTES" : "FP32");
    output.shape = shape;
    output.n_shape = ARRAY_SIZE(shape);
    out.model_name = grpc_text(manifest->name);
    out.model_version = grpc_text(INFERENCE_VERSION);
    out.id = grpc_text(id);
    out.outputs = outputs;
    out.n_outputs = ARRAY_SIZE(outputs);
    out.raw_output_contents = &raw;
    out.n_raw_output_contents = 1;
    return grpc_reply(req, &out.base);
}

struct reply handle_grpc_model_infer(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    const struct manifest *manifest = model_manifest(app->model);
    struct inference_request request = {0};
    CLEANUP_FREE float *scores = NULL;
    struct error err = {0};

    if (!grpc_message_read(&inference__model_infer_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const infer_message *in = (const infer_message *)m.message;
    if (!names_model(app, in->model_name, in->model_version, &err) ||
        !read_input(manifest, in, &request, &err) || !read_output(manifest, in, &request, &err) ||
        !inference_scores(app, &req->context, &request, &scores, &err))
        return reply_error(&err);
    return reply_infer(req, manifest, in->id, &request, scores);
}
