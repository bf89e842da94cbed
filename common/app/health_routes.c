#include "app/service.h"

#include "base/metrics.h"

enum { METRICS_MAX = 4 * 1024 * 1024 };

struct reply handle_root(const struct app *app, const struct request *req)
{
    (void)req;
    return reply_json(200,
                      json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:s}}", "name", service_of(app)->name,
                                "version", DARKROOM_VERSION, "links", "openapi", "/openapi.json",
                                "health", "/healthz", "ready", "/readyz", "metrics", "/metrics"));
}

struct reply handle_healthz(const struct app *app, const struct request *req)
{
    (void)app;
    (void)req;
    return reply_json(200, json_pack("{s:s}", "status", "alive"));
}

const char *service_failing(const struct service *service)
{
    if (atomic_load(&service->leaving))
        return "shutting down";
    return readiness_storage(service->readiness) ? NULL : "storage";
}

struct reply handle_readyz(const struct app *app, const struct request *req)
{
    const char *failing = service_failing(service_of(app));

    (void)req;
    if (failing == NULL)
        return reply_json(200, json_pack("{s:s}", "status", "ready"));
    struct reply reply =
        reply_json(503, json_pack("{s:s, s:s}", "status", "not ready", "failing", failing));
    reply_add_header(&reply, "Retry-After", "1");
    return reply;
}

struct reply handle_metrics(const struct app *app, const struct request *req)
{
    struct buffer text = BUFFER_MAX(METRICS_MAX);
    struct error err = {0};

    (void)app;
    (void)req;
    if (!metrics_render(&text, &err)) {
        buffer_done(&text);
        return reply_error(&err);
    }
    return reply_buffer(200, "text/plain; version=0.0.4; charset=utf-8", &text);
}

struct reply handle_openapi(const struct app *app, const struct request *req)
{
    (void)req;
    return reply_text(200, "application/json", service_of(app)->openapi);
}
