/* Messages of gRPC: a byte says which, the rest is one. What is read can be written, and read
 * again.
 */
#include "grpc/message.h"

#include "darkroom/v1/images.pb-c.h"
#include "darkroom/v1/labels.pb-c.h"
#include "fuzz.h"
#include "grpc/call.h"
#include "grpc/reflection.h"
#include "health.pb-c.h"
#include "image_pipeline.pb-c.h"
#include "inference.pb-c.h"
#include "nlimage.pb-c.h"
#include "reflection.pb-c.h"

enum { BUDGET = 1 << 20 };

static bool read_as(const ProtobufCMessageDescriptor *type, struct bytes body,
                    struct byte_budget *budget, struct grpc_message *ret)
{
    const struct request req = {.body = body, .context = {.budget = budget}};
    struct error err = {0};

    if (grpc_message_read(type, &req, ret, &err))
        return true;
    FUZZ_CHECK(err.code == ERROR_BAD_REQUEST || err.code == ERROR_OVERLOADED);
    return false;
}

/* The same bytes as a call's body, with the prefix in front. */
static void check_body(struct bytes in)
{
    const struct http_field field = {"grpc-encoding", "gzip"};
    struct byte_budget budget = {.max = BUDGET};
    const struct request req = {
        .headers = &field, .header_count = 1, .body = in, .context = {.budget = &budget}};
    struct decoded_body body;
    struct error err = {0};

    if (grpc_protocol.open(&req, BUDGET / 2, &body, &err)) {
        FUZZ_CHECK(body.bytes.len <= BUDGET / 2);
        decoded_body_done(&body);
    }
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
}

/* A symbol that is found is in its file. */
static void check_symbol(const Grpc__Reflection__V1__ServerReflectionRequest *in)
{
    struct bytes file;

    if (in->message_request_case !=
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL ||
        !reflection_file_of(in->file_containing_symbol, &file))
        return;
    const char *last = strrchr(in->file_containing_symbol, '.') + 1;
    FUZZ_CHECK(memmem(file.data, file.len, last, strlen(last)) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &darkroom__v1__image_request__descriptor,
        &darkroom__v1__classify_request__descriptor,
        &grpc__health__v1__health_check_request__descriptor,
        &inference__model_infer_request__descriptor,
        &inference__model_metadata_request__descriptor,
        &nlimage__descriptor,
        &nlimage_rotate_request__descriptor,
        &image_pipeline__upload_request__descriptor,
        &image_pipeline__upload_response__descriptor,
        &image_pipeline__noise_reduction_request__descriptor,
        &image_pipeline__noise_reduction_response__descriptor,
        &image_pipeline__background_remove_request__descriptor,
        &image_pipeline__background_remove_response__descriptor,
        &image_pipeline__classify_request__descriptor,
        &image_pipeline__classify_response__descriptor,
        &image_pipeline__process_request__descriptor,
        &image_pipeline__process_response__descriptor,
        &grpc__reflection__v1__server_reflection_request__descriptor};
    struct byte_budget budget = {.max = BUDGET};
    struct grpc_message message = {0}, again = {0};
    struct bytes in = bytes_of(data, size);
    const ProtobufCMessageDescriptor *type = types[fuzz_byte(&in) % ARRAY_SIZE(types)];

    check_body(in);
    if (read_as(type, in, &budget, &message)) {
        FUZZ_CHECK(message.pieces <= GRPC_MESSAGE_PIECES_MAX && message.charged <= BUDGET);
        if (type == &grpc__reflection__v1__server_reflection_request__descriptor)
            check_symbol((const Grpc__Reflection__V1__ServerReflectionRequest *)message.message);
        const struct request req = {.context = {.budget = &budget}};
        struct reply reply = grpc_reply(&req, message.message);
        if (reply.status == 200 && read_as(type, buffer_view(&reply.body), &budget, &again))
            grpc_message_done(&again);
        byte_budget_give(&budget, reply.charged_bytes);
        reply_done(&reply);
        grpc_message_done(&message);
    }
    FUZZ_CHECK(atomic_load(&budget.used) == 0);
    return 0;
}
