#include "base/json.h"
#include "base/strings.h"
#include "inference.h"
#include "model/outputs.h"

#include <string.h>

const char inference_json_length_header[] = "Inference-Header-Content-Length";

static bool bad(struct error *err, const char *why)
{
    return error_set(err, ERROR_BAD_REQUEST, "%s", why);
}

/* ---- the JSON, and what it costs */

static bool charge(const struct request *req, struct bytes text, struct inference_request *ret,
                   struct error *err)
{
    int64_t cost = json_cost(text);

    if (cost > req->context.budget->max - (int64_t)req->body.len)
        return error_set(err, ERROR_TOO_LARGE,
                         "too much JSON; send the data in the binary extension's form");
    if (!byte_budget_take(req->context.budget, cost))
        return error_set(err, ERROR_OVERLOADED, "no room for %lld bytes of JSON", (long long)cost);
    ret->budget = req->context.budget;
    ret->charged = cost;
    return true;
}

/* The JSON and the binary data behind it. */
static bool split_body(const struct request *req, struct bytes *json, struct bytes *binary,
                       struct error *err)
{
    const char *header = request_header(req, inference_json_length_header);
    int64_t len = (int64_t)req->body.len;

    if (header != NULL && !string_to_int64(header, 0, len, &len))
        return error_set(err, ERROR_BAD_REQUEST, "%s: not a length within the body",
                         inference_json_length_header);
    *json = bytes_of(req->body.data, (size_t)len);
    *binary = bytes_of(req->body.data + len, req->body.len - (size_t)len);
    return true;
}

/* ---- parameters */

static bool flag(const json_t *object, const char *name, bool *ret, struct error *err)
{
    const json_t *value = json_object_get(json_object_get(object, "parameters"), name);

    if (value == NULL)
        return true;
    *ret = json_is_true(value);
    return json_is_boolean(value) ||
           error_set(err, ERROR_BAD_REQUEST, "the parameter %s must be true or false", name);
}

/* -1 when it is absent. */
static bool number(const json_t *object, const char *name, json_int_t min, json_int_t max,
                   json_int_t *ret, struct error *err)
{
    const json_t *value = json_object_get(json_object_get(object, "parameters"), name);

    *ret = value == NULL ? -1 : json_integer_value(value);
    return value == NULL || (json_is_integer(value) && *ret >= min && *ret <= max) ||
           error_set(err, ERROR_BAD_REQUEST,
                     "the parameter %s must be a whole number from %lld to %lld", name,
                     (long long)min, (long long)max);
}

/* ---- the input */

static const char *text_of(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value != NULL ? value : "";
}

bool inference_set_kind(const char *name, const char *datatype, struct inference_request *ret,
                        struct error *err)
{
    ret->is_tensor = strcmp(name, inference_tensor_name) == 0;
    if (!ret->is_tensor && strcmp(name, inference_image_name) != 0)
        return error_set(err, ERROR_BAD_REQUEST, "the input's name must be %s or %s",
                         inference_image_name, inference_tensor_name);
    const char *expected = ret->is_tensor ? "FP32" : "BYTES";
    return strcmp(datatype, expected) == 0 ||
           error_set(err, ERROR_BAD_REQUEST, "the input's datatype must be %s", expected);
}

bool inference_set_shape(const struct manifest *manifest, const int64_t *shape, size_t dimensions,
                         struct inference_request *ret, struct error *err)
{
    const int64_t items = dimensions > 0 ? shape[0] : 0;
    json_int_t expected[INFERENCE_DIMENSIONS_MAX] = {items, 1};

    if (ret->is_tensor)
        inference_tensor_shape(manifest, items, expected);
    bool ok = ret->is_tensor ? dimensions == 4 : dimensions == 1 || dimensions == 2;
    for (size_t i = 0; ok && i < dimensions; i++)
        ok = shape[i] == expected[i];
    if (!ok)
        return bad(err, "the input's shape must match the metadata's");
    if (items < 1 || items > INFERENCE_ITEMS_MAX)
        return error_set(err, ERROR_BAD_REQUEST, "send 1 to %d items", INFERENCE_ITEMS_MAX);
    ret->items = (size_t)items;
    return true;
}

static bool read_shape(const struct manifest *manifest, const json_t *input,
                       struct inference_request *ret, struct error *err)
{
    const json_t *shape = json_object_get(input, "shape");
    size_t dimensions = json_array_size(shape);
    int64_t sizes[INFERENCE_DIMENSIONS_MAX];

    if (dimensions > INFERENCE_DIMENSIONS_MAX)
        dimensions = 0; /* no input has so many */
    for (size_t i = 0; i < dimensions; i++) {
        const json_t *size = json_array_get(shape, i);
        sizes[i] = json_is_integer(size) ? json_integer_value(size) : -1;
    }
    return inference_set_shape(manifest, sizes, dimensions, ret, err);
}

/* Each item of BYTES is its length, four bytes little-endian, and itself. */
bool inference_split_images(struct bytes binary, struct inference_request *ret, struct error *err)
{
    for (size_t i = 0; i < ret->items; i++) {
        if (binary.len < 4)
            return bad(err, "the binary data ends early");
        const uint8_t *b = binary.data;
        size_t len = b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
        if (len > binary.len - 4)
            return bad(err, "the binary data ends early");
        ret->binary[i] = bytes_of(b + 4, len);
        binary = bytes_of(b + 4 + len, binary.len - 4 - len);
    }
    return binary.len == 0 || bad(err, "the binary data has more than the shape says");
}

bool inference_split_tensors(struct bytes binary, size_t count, struct inference_request *ret,
                             struct error *err)
{
    size_t size = count * sizeof(float);

    if (binary.len != ret->items * size)
        return bad(err, "the binary data must be as long as the shape says");
    for (size_t i = 0; i < ret->items; i++)
        ret->binary[i] = bytes_of(binary.data + i * size, size);
    return true;
}

static bool read_data(const struct manifest *manifest, const json_t *input, struct bytes binary,
                      struct inference_request *ret, struct error *err)
{
    json_int_t size;

    ret->data = json_object_get(input, "data");
    if (!number(input, "binary_data_size", 0, INT64_MAX, &size, err))
        return false;
    if ((ret->data == NULL) == (size < 0))
        return bad(err, "the input needs either data or the parameter binary_data_size");
    if (binary.len != (size < 0 ? 0 : (uint64_t)size))
        return error_set(err, ERROR_BAD_REQUEST, "%zu bytes follow the JSON, not %lld", binary.len,
                         size < 0 ? 0LL : (long long)size);
    if (ret->data != NULL)
        return json_is_array(ret->data) || bad(err, "the input's data must be an array");
    return ret->is_tensor
               ? inference_split_tensors(binary, manifest_input_count(manifest), ret, err)
               : inference_split_images(binary, ret, err);
}

static bool read_input(const struct manifest *manifest, struct bytes binary,
                       struct inference_request *ret, struct error *err)
{
    const json_t *inputs = json_object_get(ret->json, "inputs");
    const json_t *input = json_array_get(inputs, 0);

    if (json_array_size(inputs) != 1 || !json_is_object(input))
        return bad(err, "inputs must have exactly one input");
    return inference_set_kind(text_of(input, "name"), text_of(input, "datatype"), ret, err) &&
           read_shape(manifest, input, ret, err) && read_data(manifest, input, binary, ret, err);
}

/* ---- the output */

bool inference_check_output(const char *name, struct error *err)
{
    return strcmp(name, inference_output_name) == 0 ||
           error_set(err, ERROR_BAD_REQUEST, "the output's name must be %s", inference_output_name);
}

int64_t inference_classes_max(const struct manifest *manifest)
{
    return manifest->label_count < TOP_K_MAX ? (int64_t)manifest->label_count : TOP_K_MAX;
}

static bool read_output(const struct manifest *manifest, struct inference_request *ret,
                        struct error *err)
{
    const json_t *outputs = json_object_get(ret->json, "outputs");
    const json_t *output = json_array_get(outputs, 0);
    json_int_t classes;

    if (!flag(ret->json, "binary_data_output", &ret->binary_output, err))
        return false;
    if (outputs != NULL && (!json_is_array(outputs) || json_array_size(outputs) > 1))
        return bad(err, "outputs must be an array of at most one output");
    if (output == NULL)
        return true;
    if (!inference_check_output(text_of(output, "name"), err))
        return false;
    if (!flag(output, "binary_data", &ret->binary_output, err) ||
        !number(output, "classification", 0, inference_classes_max(manifest), &classes, err))
        return false;
    ret->classes = classes > 0 ? (size_t)classes : 0;
    return true;
}

static bool read_id(struct inference_request *ret, struct error *err)
{
    const json_t *id = json_object_get(ret->json, "id");

    ret->id = json_string_value(id);
    return id == NULL || ret->id != NULL || bad(err, "id must be a string");
}

bool inference_request_read(const struct manifest *manifest, const struct request *req,
                            struct inference_request *ret, struct error *err)
{
    CLEANUP(inference_request_done) struct inference_request found = {0};
    struct bytes text = {0}, binary = {0};
    struct error why = {0};

    if (!split_body(req, &text, &binary, err) || !charge(req, text, &found, err))
        return false;
    found.json = json_read(text, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(found.json))
        return error_set(err, ERROR_BAD_REQUEST, "the request is not a JSON object%s%.80s",
                         found.json == NULL ? ": " : "", why.message);
    if (!read_id(&found, err) || !read_input(manifest, binary, &found, err) ||
        !read_output(manifest, &found, err))
        return false;
    *ret = found;
    found = (struct inference_request){0};
    return true;
}

void inference_request_done(struct inference_request *request)
{
    json_decref(request->json);
    if (request->charged > 0)
        byte_budget_give(request->budget, request->charged);
    *request = (struct inference_request){0};
}

/* ---- the items */

bool inference_request_image(const struct inference_request *request, size_t i,
                             struct buffer *scratch, struct bytes *ret, struct error *err)
{
    if (request->data == NULL) {
        *ret = request->binary[i];
        return true;
    }
    /* flat, or an array for each item */
    const json_t *item = json_array_get(request->data, i);
    if (json_array_size(item) == 1)
        item = json_array_get(item, 0);
    if (json_array_size(request->data) != request->items || !json_is_string(item))
        return bad(err, "the input's data must have one string of base64 for each item");
    scratch->len = 0;
    scratch->max = json_string_length(item);
    if (!string_base64_decode(json_string_value(item), scratch, err))
        return false;
    *ret = buffer_view(scratch);
    return true;
}

/* Append the numbers of a nested array in row-major order. */
static bool flatten(const json_t *value, float *out, size_t *at, size_t count)
{
    if (json_is_number(value)) {
        if (*at == count)
            return false;
        out[(*at)++] = (float)json_number_value(value);
        return true;
    }
    bool ok = json_is_array(value);
    for (size_t i = 0; ok && i < json_array_size(value); i++)
        ok = flatten(json_array_get(value, i), out, at, count);
    return ok;
}

bool inference_request_tensor(const struct inference_request *request, size_t i, size_t count,
                              float *out, struct error *err)
{
    size_t at = 0;
    bool ok;

    if (request->data == NULL) {
        memcpy(out, request->binary[i].data, count * sizeof(float));
        return true;
    }
    if (json_is_array(json_array_get(request->data, 0))) {
        ok = json_array_size(request->data) == request->items &&
             flatten(json_array_get(request->data, i), out, &at, count);
    } else {
        ok = json_array_size(request->data) == request->items * count;
        for (size_t n = 0; ok && n < count; n++)
            ok = json_is_number(json_array_get(request->data, i * count + n)) &&
                 flatten(json_array_get(request->data, i * count + n), out, &at, count);
    }
    return (ok && at == count) ||
           bad(err, "the input's data must have as many numbers as its shape says");
}
