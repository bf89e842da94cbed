/* What both services share around their routes: the command line, start-up and shutdown in the
 * right order, and the routes /, /healthz, /readyz, /metrics, /openapi.json. */
#pragma once

#include "app/authorize.h"
#include "app/outgoing.h"
#include "app/readiness.h"
#include "app/settings.h"
#include "base/embed.h"
#include "http/server.h"
#include "workers/image_worker.h"
#include "workers/worker_pool.h"

/* The first member of each service's struct app. Filled in by service_begin and by the service's
 * own start-up; read-only once serving. */
struct service {
    enum service_kind kind;
    const char *name;               /* "preprocess-service" */
    const char *openapi;            /* the text of openapi.json, embedded */
    const char *plain_errors_below; /* see server_options.h */
    struct settings settings;
    struct byte_budget budget;
    struct clock_cut cut; /* set at shutdown: no call to storage or pusher outlasts it */
    struct outgoing outgoing;
    struct store_options storage; /* what the store was opened with */
    struct store *store;
    struct sandbox *sandbox;            /* NULL: SANDBOX=off */
    struct image_worker_options images; /* what the pool's threads share for image work */
    struct worker_pool *pool;
    struct readiness *readiness;
    struct authorizer *authorizer;
    struct server *server;
    atomic_bool leaving; /* SIGTERM has come */
    /* NULL, or called at once by then: whatever takes work by itself takes no more. */
    void (*leave)(struct service *service);
    const struct route *routes; /* as given to service_serve */
    size_t route_count;
};

static inline const struct service *service_of(const struct app *app)
{
    return (const struct service *)app;
}

/* Answer --version and --help, start the sandbox, read the settings, block the signals, set up log
 * and allocator. The first thing that main does.
 * True: go on. False: exit with *status. */
bool service_begin(struct service *service, int argc, char **argv, int *status) NODISCARD;

/* Open what every service has: the store, and the worker pool with the given per-worker state; how
 * image work is done is in service->images from then on, of which the caller sets output_max
 * before. ERROR_CONFIG, too: this system cannot sandbox. */
bool service_open(struct service *service, const struct worker_pool_options *pool,
                  struct error *err) NODISCARD;

/* Serve until SIGTERM or SIGINT; /readyz is 503 from then on. After SHUTDOWN_NOTICE_MS drain (the
 * contract's invariant 7): new work gets 503 while what was accepted is finished; then `stop` (may
 * be NULL) ends the service's own threads; then the listener closes. Returns the exit status, which
 * is 1 when the sandbox's zygote is gone: that ends the service in the same way. */
int service_serve(struct service *service, const struct route *routes, size_t count,
                  void (*stop)(struct service *service, int64_t deadline_ms));

/* Free all that service_begin, _open and _serve made. */
void service_done(struct service *service);

/* Log why the service cannot start; the exit status: 2 for configuration, else 1. */
int service_fail(const struct error *err);

struct reply handle_root(const struct app *app, const struct request *req);
struct reply handle_healthz(const struct app *app, const struct request *req);
struct reply handle_readyz(const struct app *app, const struct request *req);
struct reply handle_metrics(const struct app *app, const struct request *req);
struct reply handle_openapi(const struct app *app, const struct request *req);
/* grpc.health.v1.Health/Check: the same answer as /readyz, for the server or a service that has a
 * route. */
struct reply handle_grpc_health(const struct app *app, const struct request *req);
/* …/Watch: the same as a stream of changes. */
struct reply handle_grpc_watch(const struct app *app, const struct request *req);
/* grpc.reflection.v1.ServerReflection, and v1alpha: the services that have routes, and their .proto
 * files. */
struct reply handle_grpc_reflection(const struct app *app, const struct request *req);
/* Whether a method of this gRPC service has a route. */
bool service_has_call(const struct service *service, const char *name);

/* What keeps the service from being ready, or NULL. */
const char *service_failing(const struct service *service);

#define SERVICE_ROUTE(path, handler)                                                               \
    {                                                                                              \
        "GET", path, handler, ROUTE_LIGHT | ROUTE_PUBLIC                                           \
    }

#define SERVICE_CALL(path, handler)                                                                \
    {                                                                                              \
        ROUTER_CALL, path, handler, ROUTE_LIGHT | ROUTE_OPEN                                       \
    }
