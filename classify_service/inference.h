/* The Open Inference Protocol v2 (KServe's open-inference-protocol, inference_rest.md), with
 * Triton's extensions for binary tensor data and classification.
 *
 * The model has one input, given in one of two ways, and one output:
 *   image   BYTES [n] or [n, 1]: images as files (in JSON: base64)
 *   tensor  FP32 [n, ...]: what the model wants, its shape is in the metadata
 *   scores  FP32 [n, classes], or BYTES [n, k] "score:index:label" with `classification`: k */
#pragma once

#include "app.h"

#include <jansson.h>

enum {
    INFERENCE_ITEMS_MAX = 32,
    INFERENCE_DIMENSIONS_MAX = 4,
};

/* The one version that a model has, which a path may name or not (routes.c). */
#define INFERENCE_VERSION "1"

extern const char inference_image_name[], inference_tensor_name[], inference_output_name[];
extern const char inference_json_length_header[];

/* Whether the path names the model; else *reply says that there is no such one. */
bool inference_names_model(const struct app *app, const struct request *req, struct reply *reply);

/* The shape of a tensor input of `items` (-1 in metadata). */
void inference_tensor_shape(const struct manifest *manifest, json_int_t items,
                            json_int_t shape[INFERENCE_DIMENSIONS_MAX]);

/* A request to infer, checked. Borrows the HTTP request's body. */
struct inference_request {
    json_t *json;
    const char *id; /* NULL when none was given */
    bool is_tensor;
    size_t items;
    const json_t *data;                       /* of a JSON input */
    struct bytes binary[INFERENCE_ITEMS_MAX]; /* the items of a binary input */
    size_t classes;                           /* labels wanted for each item; 0: scores */
    bool binary_output;
    struct byte_budget *budget;
    int64_t charged;
};

/* What the JSON needs when it is parsed is charged to the request's budget until
 * inference_request_done: ERROR_TOO_LARGE when it could never fit, ERROR_OVERLOADED when it does
 * not now. ERROR_BAD_REQUEST. Takes CPU time: for a worker. */
bool inference_request_read(const struct manifest *manifest, const struct request *req,
                            struct inference_request *ret, struct error *err) NODISCARD;
void inference_request_done(struct inference_request *request);

/* Item i of a request of images: *ret is borrowed from the body or from `scratch`. */
bool inference_request_image(const struct inference_request *request, size_t i,
                             struct buffer *scratch, struct bytes *ret,
                             struct error *err) NODISCARD;
/* Item i of a request of tensors: manifest_input_count floats. */
bool inference_request_tensor(const struct inference_request *request, size_t i, size_t count,
                              float *out, struct error *err) NODISCARD;

/* The answer: `scores` holds those of all items, one after the other. */
struct reply inference_reply_infer(const struct manifest *manifest,
                                   const struct inference_request *request, const float *scores);
