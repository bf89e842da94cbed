#include "app/service.h"
#include "grpc/stream.h"
#include "health.pb-c.h"

#include <string.h>

enum {
    REQUEST_MAX = 4096,
    WATCH_MS = 500, /* how long a change may go unseen; shutdown is seen at once */
};

typedef Grpc__Health__V1__HealthCheckResponse response_message;
typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

bool service_has_call(const struct service *service, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < service->route_count && len > 0; i++) {
        const char *path = service->routes[i].pattern;
        if (router_is_call(&service->routes[i]) && strncmp(path + 1, name, len) == 0 &&
            path[1 + len] == '/')
            return true;
    }
    return false;
}

/* "" is the whole server. */
static serving_status status_of(const struct service *service, const char *name)
{
    if (*name != '\0' && !service_has_call(service, name))
        return GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    return service_failing(service) == NULL
               ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
               : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
}

static const char *name_of(const struct grpc_message *m)
{
    return ((const Grpc__Health__V1__HealthCheckRequest *)m->message)->service;
}

struct reply handle_grpc_health(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    response_message out = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct error err = {0};

    if (!grpc_message_read(&grpc__health__v1__health_check_request__descriptor, req, &m, &err))
        return reply_error(&err);
    out.status = status_of(service_of(app), name_of(&m));
    if (out.status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN) {
        error_set(&err, ERROR_NOT_FOUND, "there is no service %.128s", name_of(&m));
        return reply_error(&err);
    }
    return grpc_reply(req, &out.base);
}

/* Ends with the client, or with us. */
struct reply handle_grpc_watch(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    response_message out = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    const struct service *service = service_of(app);
    struct error err = {0};

    bool ok = grpc_read_only(req, &grpc__health__v1__health_check_request__descriptor, REQUEST_MAX,
                             &m, &err);
    while (ok) {
        bool draining = server_is_draining(service->server);
        serving_status now = status_of(service, name_of(&m));
        if (now != out.status) {
            out.status = now;
            ok = grpc_write(req, &out.base, &err);
        }
        if (draining)
            ok = error_set(&err, ERROR_SHUTTING_DOWN, "shutting down");
        ok = ok && rpc_wait(req->stream, WATCH_MS, &err);
    }
    return reply_error(&err);
}
