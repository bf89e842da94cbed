/* The inference protocol's requests: the value of Inference-Header-Content-Length in the first line
 * ("" for none), then the body. The model takes 2 x 2 pixels and knows three labels. */
#include "../../classify_service/inference.h"
#include "fuzz.h"

enum { SIDE = 2, FLOATS = 3 * SIDE * SIDE, LABELS = 3 };

static char *labels[LABELS] = {(char[]){"tench, Tinca"}, (char[]){"a \xc3\xa9"}, (char[]){"c"}};
static struct manifest manifest = {
    .name = "tiny",
    .input = {.width = SIDE, .height = SIDE, .short_side = SIDE, .nchw = true, .std = {1, 1, 1}},
    .labels = labels,
    .label_count = LABELS,
};

static bool is_inside(struct bytes part, struct bytes whole)
{
    return part.len == 0 ||
           (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

/* The same items in the binary extension's form, or in JSON's. */
struct twin {
    struct buffer body;
    char header[32];
};

static void twin_finish(struct twin *twin, const struct inference_request *request,
                        const struct buffer *items)
{
    struct error err = {0};

    if (request->is_tensor)
        FUZZ_CHECK(buffer_printf(&twin->body, &err,
                                 "{\"inputs\":[{\"name\":\"tensor\",\"datatype\":\"FP32\","
                                 "\"shape\":[%zu,3,2,2],\"parameters\":{\"binary_data_size\":%zu}"
                                 "}]}",
                                 request->items, items->len));
    else
        FUZZ_CHECK(buffer_printf(&twin->body, &err,
                                 "{\"inputs\":[{\"name\":\"image\",\"datatype\":\"BYTES\","
                                 "\"shape\":[%zu],\"parameters\":{\"binary_data_size\":%zu}}]}",
                                 request->items, items->len));
    snprintf(twin->header, sizeof(twin->header), "%zu", twin->body.len);
    FUZZ_CHECK(buffer_append(&twin->body, items->data, items->len, &err));
}

/* What was read one way and written the other way is read as the same. */
static void check_twin(const struct inference_request *request, const struct buffer *items,
                       struct byte_budget *budget)
{
    struct twin twin = {.body = BUFFER_MAX(items->len + 4096)};
    CLEANUP(inference_request_done) struct inference_request again = {0};
    CLEANUP(buffer_done) struct buffer scratch = {0};
    struct error err = {0};
    size_t at = 0;

    twin_finish(&twin, request, items);
    const struct http_field header = {inference_json_length_header, twin.header};
    const struct request req = {.headers = &header,
                                .header_count = 1,
                                .body = buffer_view(&twin.body),
                                .context = {.budget = budget}};
    FUZZ_CHECK(inference_request_read(&manifest, &req, &again, &err));
    FUZZ_CHECK(again.items == request->items && again.is_tensor == request->is_tensor);
    for (size_t i = 0; i < again.items; i++) {
        float floats[FLOATS];
        struct bytes image = bytes_of(floats, sizeof(floats));
        if (again.is_tensor) {
            FUZZ_CHECK(inference_request_tensor(&again, i, FLOATS, floats, &err));
        } else {
            FUZZ_CHECK(inference_request_image(&again, i, &scratch, &image, &err));
            at += 4;
        }
        FUZZ_CHECK(bytes_equal(image, bytes_of(items->data + at, image.len)));
        at += image.len;
    }
    FUZZ_CHECK(at == items->len);
    buffer_done(&twin.body);
}

static void add_image(struct buffer *items, struct bytes image)
{
    const uint8_t len[] = {(uint8_t)image.len, (uint8_t)(image.len >> 8),
                           (uint8_t)(image.len >> 16), (uint8_t)(image.len >> 24)};
    struct error err;

    FUZZ_CHECK(buffer_append(items, len, sizeof(len), &err) &&
               buffer_append(items, image.data, image.len, &err));
}

/* All items; false when one is not as it should be. */
static bool read_items(const struct inference_request *request, struct bytes body,
                       struct buffer *items)
{
    CLEANUP(buffer_done) struct buffer scratch = {0};
    struct error err = {0};
    bool ok = true;

    for (size_t i = 0; ok && i < request->items; i++) {
        float floats[FLOATS];
        struct bytes image = {0};
        ok = request->is_tensor ? inference_request_tensor(request, i, FLOATS, floats, &err)
                                : inference_request_image(request, i, &scratch, &image, &err);
        if (!ok)
            FUZZ_CHECK_ERROR(&err, ERROR_BAD_REQUEST);
        else if (request->is_tensor)
            FUZZ_CHECK(buffer_append(items, floats, sizeof(floats), &err));
        else
            add_image(items, image);
        if (request->data == NULL)
            FUZZ_CHECK(is_inside(request->binary[i], body));
    }
    return ok;
}

static void check_answer(const struct inference_request *request)
{
    float scores[INFERENCE_ITEMS_MAX * LABELS];

    for (size_t i = 0; i < ARRAY_SIZE(scores); i++)
        scores[i] = (float)(i % 7) / 7.0F;
    struct reply reply = inference_reply_infer(&manifest, request, scores);
    FUZZ_CHECK(reply.status == 200);
    if (!request->binary_output) {
        json_t *json = json_loadb((const char *)reply.body.data, reply.body.len, 0, NULL);
        FUZZ_CHECK(json_is_object(json));
        json_decref(json);
    }
    reply_done(&reply);
}

static void check_refusal(const struct error *err)
{
    CLEANUP(buffer_done) struct buffer body = BUFFER_MAX(4096);
    struct error oom;

    FUZZ_CHECK_ERROR(err, ERROR_BAD_REQUEST, ERROR_TOO_LARGE, ERROR_OVERLOADED);
    FUZZ_CHECK(reply_error_body(ERROR_FORM_PLAIN, err, "id", &body, &oom));
    json_t *json = json_loadb((const char *)body.data, body.len, 0, NULL);
    FUZZ_CHECK(json_is_string(json_object_get(json, "error")));
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes body = bytes_of(data, size);
    CLEANUP_FREE char *length = fuzz_line(&body);
    struct byte_budget budget = {.max = 4 << 20};
    const struct http_field header = {inference_json_length_header, length};
    const struct request req = {.headers = &header,
                                .header_count = *length != '\0',
                                .body = body,
                                .route = "",
                                .context = {.id = "id", .budget = &budget}};
    struct inference_request request = {0};
    CLEANUP(buffer_done) struct buffer items = BUFFER_MAX(16 << 20);
    struct error err = {0};

    if (inference_request_read(&manifest, &req, &request, &err)) {
        FUZZ_CHECK(request.items >= 1 && request.items <= INFERENCE_ITEMS_MAX);
        FUZZ_CHECK(request.classes <= LABELS);
        FUZZ_CHECK(atomic_load(&budget.used) == request.charged);
        if (read_items(&request, body, &items))
            check_twin(&request, &items, &budget);
        check_answer(&request);
        inference_request_done(&request);
    } else {
        check_refusal(&err);
    }
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
    return 0;
}
