#include "app/service.h"
#include "grpc/message.h"
#include "health.pb-c.h"

#include <string.h>

/* Whether a method of the service has a route; "" is the whole server. */
static bool is_served(const struct service *service, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < service->route_count && len > 0; i++) {
        const char *path = service->routes[i].pattern;
        if (router_is_call(&service->routes[i]) && strncmp(path + 1, name, len) == 0 &&
            path[1 + len] == '/')
            return true;
    }
    return len == 0;
}

struct reply handle_grpc_health(const struct app *app, const struct request *req)
{
    CLEANUP(grpc_message_done) struct grpc_message m = {0};
    Grpc__Health__V1__HealthCheckResponse out = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    const struct service *service = service_of(app);
    struct error err = {0};

    if (!grpc_message_read(&grpc__health__v1__health_check_request__descriptor, req, &m, &err))
        return reply_error(&err);
    const char *name = ((const Grpc__Health__V1__HealthCheckRequest *)m.message)->service;
    if (!is_served(service, name)) {
        error_set(&err, ERROR_NOT_FOUND, "there is no service %.128s", name);
        return reply_error(&err);
    }
    out.status = service_failing(service) == NULL
                     ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                     : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    return grpc_reply(req, &out.base);
}
