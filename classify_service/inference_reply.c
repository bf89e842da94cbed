#include "base/xmalloc.h"
#include "inference.h"
#include "model/outputs.h"

#include <string.h>

/* Of the binary data: all scores, or labels, of which there are few. */
static size_t binary_max(const struct manifest *manifest, const struct inference_request *request)
{
    enum { LABELS_MAX = 4 * 1024 * 1024 };

    return request->classes > 0 ? LABELS_MAX
                                : request->items * manifest->label_count * sizeof(float);
}

/* Either JSON values or bytes, as the request wants them. */
struct values {
    json_t *json; /* NULL: binary */
    struct buffer bytes;
};

static bool add_bytes(struct values *values, const char *text)
{
    struct error err;
    uint32_t len = (uint32_t)strlen(text);
    const uint8_t prefix[] = {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16),
                              (uint8_t)(len >> 24)};

    if (values->json != NULL)
        return json_array_append_new(values->json, json_string(text)) == 0;
    return buffer_append(&values->bytes, prefix, sizeof(prefix), &err) &&
           buffer_append(&values->bytes, text, len, &err);
}

/* As Triton writes a class: value:index:label. */
static bool add_labels(const struct manifest *manifest, const float *scores, size_t k,
                       struct values *values)
{
    struct labels labels;

    labels_pick(manifest, scores, k, &labels);
    for (size_t i = 0; i < labels.count; i++) {
        const struct label *label = &labels.top[i];
        const char *line = manifest->labels[label->index];
        CLEANUP_FREE char *text = xasprintf("%f:%zu:%.*s", (double)label->confidence, label->index,
                                            (int)strcspn(line, ","), line);
        if (!add_bytes(values, text))
            return false;
    }
    return true;
}

static bool add_scores(const float *scores, size_t count, struct values *values)
{
    struct error err;

    if (values->json == NULL)
        return buffer_append(&values->bytes, scores, count * sizeof(float), &err);
    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(values->json, json_real((double)scores[i])) != 0)
            return false;
    return true;
}

static bool add_all(const struct manifest *manifest, const struct inference_request *request,
                    const float *scores, struct values *values)
{
    size_t count = manifest->label_count;
    bool ok = true;

    for (size_t i = 0; ok && i < request->items; i++)
        ok = request->classes > 0
                 ? add_labels(manifest, scores + i * count, request->classes, values)
                 : add_scores(scores + i * count, count, values);
    return ok;
}

bool inference_output_bytes(const struct manifest *manifest,
                            const struct inference_request *request, const float *scores,
                            struct buffer *out, struct error *err)
{
    struct values values = {.bytes = BUFFER_MAX(binary_max(manifest, request))};

    if (!add_all(manifest, request, scores, &values)) {
        buffer_done(&values.bytes);
        return error_oom(err);
    }
    *out = values.bytes;
    return true;
}

static json_t *output_of(const struct manifest *manifest, const struct inference_request *request,
                         const struct values *values)
{
    size_t columns = request->classes > 0 ? request->classes : manifest->label_count;
    json_t *output = json_pack("{s:s, s:s, s:[I, I]}", "name", inference_output_name, "datatype",
                               request->classes > 0 ? "BYTES" : "FP32", "shape",
                               (json_int_t)request->items, (json_int_t)columns);
    int failed = values->json != NULL
                     ? json_object_set(output, "data", values->json)
                     : json_object_set_new(
                           output, "parameters",
                           json_pack("{s:I}", "binary_data_size", (json_int_t)values->bytes.len));

    if (failed == 0)
        return output;
    json_decref(output);
    return NULL;
}

/* The JSON, then the binary data. */
static struct reply with_binary(struct reply reply, const struct buffer *binary)
{
    struct error err = {0};
    size_t len = reply.body.len;

    if (reply.status != 200)
        return reply;
    if (!buffer_append(&reply.body, binary->data, binary->len, &err)) {
        reply_done(&reply);
        return reply_error(&err);
    }
    reply.content_type = "application/octet-stream";
    reply_add_header(&reply, inference_json_length_header, "%zu", len);
    return reply;
}

struct reply inference_reply_infer(const struct manifest *manifest,
                                   const struct inference_request *request, const float *scores)
{
    struct values values = {.json = request->binary_output ? NULL : json_array(),
                            .bytes = BUFFER_MAX(binary_max(manifest, request))};
    bool ok = (request->binary_output || values.json != NULL) &&
              add_all(manifest, request, scores, &values);

    json_t *output = ok ? output_of(manifest, request, &values) : NULL;
    json_t *json = output != NULL ? json_pack("{s:s, s:s, s:s*, s:[o]}", "model_name",
                                              manifest->name, "model_version", INFERENCE_VERSION,
                                              "id", request->id, "outputs", output)
                                  : NULL;
    struct reply reply = reply_json(200, json);
    if (request->binary_output)
        reply = with_binary(reply, &values.bytes);
    json_decref(values.json);
    buffer_done(&values.bytes);
    return reply;
}
