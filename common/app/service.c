#include "app/service.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "grpc/call.h"
#include "workers/image_job.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

enum {
    EXIT_CONFIG = 2,
    MISTAKES_MAX = 16384,
    LAST_MS = 500, /* of SHUTDOWN_GRACE_MS, kept for closing */
};

/* glibc's malloc, chosen by what stays resident under load (`make bench` prints it as PSS). */
enum {
    ARENAS = 2,               /* the default is 8 per core, each of which keeps what it once had */
    MMAP_BYTES = 1024 * 1024, /* from here on a block goes back to the system when freed; unless
                                 set, that grows with the first big image. Below, bodies of
                                 thumbnails cost no page faults */
    TRIM_BYTES = 1024 * 1024, /* of free memory an arena keeps at its end */
};

static void tune_malloc(void)
{
    mallopt(M_ARENA_MAX, ARENAS);
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    mallopt(M_TRIM_THRESHOLD, TRIM_BYTES);
}

static void print_help(const struct service *service)
{
    printf("%s %s\n\nUsage: %s [--help | --version%s]\n\nConfiguration (environment variable, "
           "default, meaning):\n",
           service->name, DARKROOM_VERSION, service->name,
           service->kind == SERVICE_PREPROCESS
               ? " | --outbox list|requeue|purge|reconcile [EVENT_ID] | --catalogue rebuild"
                 " | --seal rotate | --users list|add|password|delete|rotate-keys [NAME]"
               : "");
    settings_print_help(service->kind, stdout);
}

static enum log_level log_level_of(const char *name)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    size_t i = 0;

    while (i < LOG_ERROR && strcmp(names[i], name) != 0)
        i++;
    return (enum log_level)i;
}

/* Threads inherit the mask: whatever they are, only main's sigwait sees these signals. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGCHLD); /* the zygote's end */
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(2), like a full disk */
}

static void log_settings(const struct service *service)
{
    CLEANUP(buffer_done) struct buffer text = BUFFER_MAX(LOG_VALUE_MAX);
    struct error err = {0};

    const char *line = settings_describe(service->kind, &service->settings, &text, &err)
                           ? buffer_cstr(&text, &err)
                           : NULL;
    log_info("starting", F("settings", line != NULL ? line : err.message));
}

/* The zygote is forked before anything is in memory that is not for it, the settings included: so
 * this one is looked at early. A value that is wrong is told of with the others. */
static bool start_sandbox(struct service *service, int *status)
{
    const char *value = getenv("SANDBOX");
    struct error err = {0};
    bool on;

    if (value != NULL && config_bool(value, &on) && !on)
        return true;
    service->sandbox = sandbox_start(&image_job_code, &err);
    if (service->sandbox == NULL) {
        fprintf(stderr, "%s: %s\n", service->name, err.message);
        *status = 1;
    }
    return service->sandbox != NULL;
}

static bool check_sandbox(const struct service *service, struct error *err)
{
    struct error why = {0};

    return service->sandbox == NULL || sandbox_check(service->sandbox, &why) ||
           error_set(err, ERROR_CONFIG,
                     "SANDBOX: this system cannot isolate image decoding (%s): mend that, or set "
                     "SANDBOX=off",
                     why.message);
}

bool service_begin(struct service *service, int argc, char **argv, int *status)
{
    CLEANUP(buffer_done) struct buffer mistakes = BUFFER_MAX(MISTAKES_MAX);
    sigset_t set;

    *status = 0;
    if (argc > 1) {
        if (strcmp(argv[1], "--version") == 0 && argc == 2)
            printf("%s %s\n", service->name, DARKROOM_VERSION);
        else if (strcmp(argv[1], "--help") == 0 && argc == 2)
            print_help(service);
        else {
            fprintf(stderr, "%s: unknown argument %s; see --help\n", service->name, argv[1]);
            *status = EXIT_CONFIG;
        }
        return false;
    }
    tune_malloc(); /* for the sandbox's processes, too */
    if (!start_sandbox(service, status))
        return false;
    if (!settings_load(service->kind, &service->settings, &mistakes)) {
        fprintf(stderr, "%s: configuration mistakes:\n%.*s", service->name, (int)mistakes.len,
                (const char *)mistakes.data);
        *status = EXIT_CONFIG;
        return false;
    }
    block_signals(&set);
    log_init(service->name, log_level_of(service->settings.log_level),
             strcmp(service->settings.log_format, "text") == 0 ? LOG_TEXT : LOG_JSON);
    service->budget.max = service->settings.body_budget_bytes;
    log_settings(service);
    return true;
}

bool service_open(struct service *service, const struct worker_pool_options *pool,
                  struct error *err)
{
    struct worker_pool_options options = *pool;

    options.workers = (int)service->settings.workers;
    options.queue_max = (int)service->settings.queue_max;
    options.memory_max = service->settings.decode_budget_bytes;
    if (!outgoing_open(&service->settings, &service->cut, &service->outgoing, err))
        return false;
    service->store = storage_open(&service->settings, &service->outgoing, &service->storage, err);
    if (service->store == NULL)
        return false;
    service->readiness = readiness_new(service->store, err);
    if (service->readiness == NULL)
        return false;
    service->authorizer =
        authorizer_new(service->kind, &service->settings, service->outgoing.client);
    if (!check_sandbox(service, err))
        return false;
    service->images.sandbox = service->sandbox;
    service->images.limits = (struct image_limits){
        .max_pixels = service->settings.max_pixels,
        .max_decode_bytes = service->settings.max_decode_bytes,
    };
    service->images.input_max = (size_t)service->settings.max_body_bytes;
    service->pool = worker_pool_new(&options, err);
    return service->pool != NULL;
}

void service_done(struct service *service)
{
    worker_pool_free(service->pool);
    authorizer_free(service->authorizer);
    readiness_free(service->readiness);
    store_free(service->store);
    outgoing_done(&service->outgoing);
    settings_done(&service->settings);
    sandbox_stop(service->sandbox);
}

int service_fail(const struct error *err)
{
    log_error(err->message, F("error", error_slug(err->code)));
    return err->code == ERROR_CONFIG ? EXIT_CONFIG : 1;
}

static bool admit(const struct app *app, struct error *err)
{
    return !worker_pool_is_full(service_of(app)->pool) ||
           error_set(err, ERROR_OVERLOADED, "the worker queue is full");
}

static bool may_call(const struct app *app, const struct request *req, struct caller *caller,
                     struct error *err)
{
    return authorize(service_of(app)->authorizer, req, caller, err);
}

static bool may_still_call(const struct app *app, const struct request *req,
                           const struct caller *caller, struct error *err)
{
    return authorizer_confirm(service_of(app)->authorizer, req, caller, err);
}

static double queue_depth(void *ctx)
{
    return worker_pool_queue_depth(ctx);
}

static double busy(void *ctx)
{
    return worker_pool_busy(ctx);
}

static double body_bytes(void *ctx)
{
    return (double)atomic_load(&((struct byte_budget *)ctx)->used);
}

static double connections(void *ctx)
{
    return server_connections(ctx);
}

static const struct rpc_protocol *const protocols[] = {&grpc_protocol, &grpc_web_protocol,
                                                       &connect_protocol, NULL};

static struct server *start(struct service *service, const struct route *routes, size_t count,
                            struct error *err)
{
    const struct settings *s = &service->settings;

    return server_start(
        &(struct server_options){
            .host = s->host,
            .port = (int)s->port,
            .app = (const struct app *)service,
            .routes = routes,
            .route_count = count,
            .max_body_bytes = s->max_body_bytes,
            .body_stall_ms = s->body_stall_ms,
            .body_min_rate = s->body_min_rate,
            .max_connections = s->max_connections,
            .max_inflight = s->max_inflight,
            .request_timeout_ms = s->request_timeout_ms,
            .budget = &service->budget,
            .cors_origins = s->cors_origins,
            .plain_errors_below = service->plain_errors_below,
            .admit = admit,
            .authorize = may_call,
            .confirm = may_still_call,
            .rpc = protocols,
            .ready = &service->server,
        },
        err);
}

/* SIGTERM or SIGINT; SIGCHLD: the zygote is gone. */
static int wait_for_end(struct service *service)
{
    sigset_t set;
    int number = SIGCHLD;

    block_signals(&set);
    while (number == SIGCHLD) {
        if (service->sandbox != NULL && !sandbox_alive(service->sandbox))
            return SIGCHLD;
        sigwait(&set, &number);
    }
    return number;
}

int service_serve(struct service *service, const struct route *routes, size_t count,
                  void (*stop)(struct service *service, int64_t deadline_ms))
{
    struct error err = {0};

    metric_gauge_source(METRIC_WORKER_QUEUE_DEPTH, queue_depth, service->pool);
    metric_gauge_source(METRIC_WORKER_BUSY, busy, service->pool);
    metric_gauge_source(METRIC_BODY_BYTES, body_bytes, &service->budget);
    service->routes = routes;
    service->route_count = count;
    if (start(service, routes, count, &err) == NULL)
        return service_fail(&err);
    metric_gauge_source(METRIC_CONNECTIONS, connections, service->server);
    log_info("ready", F("version", DARKROOM_VERSION), F("port", server_port(service->server)));

    int signal_number = wait_for_end(service);
    if (signal_number == SIGCHLD)
        log_error("the sandbox's zygote is gone: the service ends; start it again");
    /* so that the gateway's next look at /readyz comes before the first refusal */
    atomic_store(&service->leaving, true);
    if (service->leave != NULL)
        service->leave(service);
    if (signal_number != SIGCHLD)
        poll(NULL, 0, (int)service->settings.shutdown_notice_ms);
    int64_t deadline = clock_monotonic_ms() + service->settings.shutdown_grace_ms - LAST_MS;
    log_info("shutting down", F("signal", signal_number),
             F("inflight", server_inflight(service->server)));
    clock_cut_set(&service->cut, deadline);
    worker_pool_cut_deadlines(service->pool, deadline);
    server_drain(service->server, deadline);
    if (stop != NULL)
        stop(service, deadline);
    metric_gauge_clear(METRIC_CONNECTIONS);
    server_stop(service->server);
    log_info("stopped");
    return signal_number == SIGCHLD ? 1 : 0;
}
