#include "app/service.h"
#include "base/xmalloc.h"
#include "grpc/call.h"
#include "grpc/reflection.h"
#include "grpc/stream.h"
#include "reflection.pb-c.h"

enum { REQUEST_MAX = 65536, SERVICES_MAX = 32 };

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

/* The names of the services that have routes. */
struct services {
    char names[SERVICES_MAX][REFLECTION_NAME_MAX];
    Grpc__Reflection__V1__ServiceResponse services[SERVICES_MAX], *list[SERVICES_MAX];
    Grpc__Reflection__V1__ListServiceResponse message;
};

static bool send_services(const struct service *service, const struct request *req,
                          response_message out, struct error *err)
{
    struct services *all = xcalloc(1, sizeof(*all));
    size_t count = 0;

    for (size_t i = 0; count < SERVICES_MAX && reflection_service(i, all->names[count]); i++) {
        if (!service_has_call(service, all->names[count]))
            continue;
        all->list[count] = &all->services[count];
        grpc__reflection__v1__service_response__init(all->list[count]);
        all->list[count]->name = all->names[count];
        count++;
    }
    grpc__reflection__v1__list_service_response__init(&all->message);
    all->message.n_service = count;
    all->message.service = all->list;
    out.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    out.list_services_response = &all->message;
    bool ok = grpc_write(req, &out.base, err);
    free(all);
    return ok;
}

static bool send_file(const struct request *req, struct bytes file, response_message out,
                      struct error *err)
{
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    union {
        const uint8_t *in;
        uint8_t *out; /* protobuf-c's type; it only reads */
    } same = {.in = file.data};
    ProtobufCBinaryData one = {.len = file.len, .data = same.out};

    files.n_file_descriptor_proto = 1;
    files.file_descriptor_proto = &one;
    out.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    out.file_descriptor_response = &files;
    return grpc_write(req, &out.base, err);
}

static bool send_not_found(const struct request *req, response_message out, struct error *err)
{
    Grpc__Reflection__V1__ErrorResponse why = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

    why.error_code = grpc_status_of(ERROR_NOT_FOUND);
    why.error_message = grpc_text("there is nothing of this name");
    out.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    out.error_response = &why;
    return grpc_write(req, &out.base, err);
}

/* Extensions are never found: proto3 has none. */
static bool answer(const struct service *service, const struct request *req, request_message *in,
                   struct error *err)
{
    enum {
        NOTHING = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST__NOT_SET,
        LIST = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES,
        FILENAME =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME,
        SYMBOL =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL,
    };
    response_message out = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    const int asked = (int)in->message_request_case;
    struct bytes file;

    out.valid_host = in->host;
    out.original_request = in;
    if (asked == NOTHING)
        return error_set(err, ERROR_BAD_REQUEST, "a request that asks for nothing");
    if (asked == LIST)
        return send_services(service, req, out, err);
    bool found = (asked == FILENAME && reflection_file(in->file_by_filename, &file)) ||
                 (asked == SYMBOL && reflection_file_of(in->file_containing_symbol, &file));
    return found ? send_file(req, file, out, err) : send_not_found(req, out, err);
}

struct reply handle_grpc_reflection(const struct app *app, const struct request *req)
{
    struct error err = {0};

    for (bool more = true; more;) {
        CLEANUP(grpc_message_done) struct grpc_message m = {0};
        if (!grpc_read(req, &grpc__reflection__v1__server_reflection_request__descriptor,
                       REQUEST_MAX, &m, &err))
            return reply_error(&err);
        more = m.message != NULL;
        if (more && !answer(service_of(app), req, (request_message *)m.message, &err))
            return reply_error(&err);
    }
    return reply_empty(200);
}
