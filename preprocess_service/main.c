#include "accounts.h"
#include "background.h"
#include "base/log.h"
#include "base/metrics.h"
#include "commands.h"
#include "events/amqp/amqp_publisher.h"
#include "events/amqp/amqp_url.h"
#include "events/outbox/push.h"
#include "objects/object_name.h"
#include "pipeline/pipeline.h"
#include "reconcile.h"
#include "retention.h"

#include <string.h>

EMBED_FILE(preprocess_openapi, "preprocess_service/openapi.json");

static double rows_pending(void *ctx)
{
    return (double)catalogue_pending(ctx);
}

static double pending(void *outbox)
{
    return (double)outbox_pending(outbox);
}

static double dead(void *outbox)
{
    return (double)outbox_dead(outbox);
}

static double tasks(void *pipeline)
{
    return pipeline_tasks(pipeline);
}

/* The classifier acknowledges an event when it has stored the result. */
static void delivered(void *ctx, const struct outbox_row *row)
{
    struct app *app = ctx;
    struct store *store = app->service.store;
    char key[STORE_KEY_MAX + 1];
    struct object_name name;
    struct error ignored = {0}; /* an older STORAGE_URL's */

    if (app->catalogue != NULL && store_key_of_uri(store, row->gcs_path, key, &ignored) &&
        object_name_parse(key + strlen(store_prefix(store)), &name))
        catalogue_result_stored(app->catalogue, &name);
}

static bool open_catalogue(struct app *app, struct error *err)
{
    const char *url = app->service.settings.catalogue_url;

    if (strcmp(url, "none:") == 0)
        return true;
    app->catalogue = catalogue_open(&(struct catalogue_options){.url = url,
                                                                .store = app->service.store,
                                                                .outbox = app->outbox,
                                                                .keep = true,
                                                                .had_account = accounts_had,
                                                                .had_account_ctx = app->users},
                                    err);
    if (app->catalogue == NULL)
        return error_wrap(err, "CATALOGUE_URL");
    metric_gauge_source(METRIC_CATALOGUE_PENDING, rows_pending, app->catalogue);
    return true;
}

static bool open_outbox(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;

    app->outbox = outbox_open(
        &(struct outbox_options){
            .path = s->outbox_path,
            .max_pending = s->outbox_max_pending,
            .lock_wait_ms = s->shutdown_grace_ms,
        },
        err);
    if (app->outbox == NULL)
        return false;
    metric_gauge_source(METRIC_OUTBOX_PENDING, pending, app->outbox);
    metric_gauge_source(METRIC_OUTBOX_DEAD, dead, app->outbox);
    return true;
}

/* EVENTS_URL=push+http://… or push+https://…: a dispatcher behind the outbox. */
static bool open_push(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;

    app->publisher = push_publisher_new(app->outbox,
                                        &(struct push_options){
                                            .url = s->events_url + strlen("push+"),
                                            .token = s->push_token,
                                            .client = app->service.outgoing.client,
                                            .concurrency = s->push_concurrency,
                                            .max_attempts = s->max_delivery_attempts,
                                            .max_age_s = s->delivery_max_age_s,
                                            .delivered = delivered,
                                            .delivered_ctx = app,
                                        },
                                        err);
    if (app->publisher == NULL)
        return error_wrap(err, "EVENTS_URL");
    app->reconciler = reconciler_new(app->service.store, app->outbox, err);
    return app->reconciler != NULL;
}

/* EVENTS_URL=pubsub://…, or PREP_TOPIC. */
static bool open_pubsub(struct app *app, const char *topic, struct error *err)
{
    if (!topic_open(&app->service.settings, topic, &app->service.outgoing, &app->topic, err))
        return error_wrap(err, "PREP_TOPIC");
    app->publisher = pubsub_publisher_new(&app->topic.options, err);
    return app->publisher != NULL;
}

/* EVENTS_URL=amqp(s)://… */
static bool open_broker(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;

    app->publisher = amqp_publisher_new(
        &(struct amqp_options){.url = s->events_url, .ca_file = s->ca_file}, err);
    return app->publisher != NULL || error_wrap(err, "EVENTS_URL");
}

/* The catalogue is there before an event is delivered. */
static bool open_events(struct app *app, struct error *err)
{
    static const char pubsub[] = "pubsub://";
    const char *url = app->service.settings.events_url;
    bool push = string_starts_with(url, "push+");

    if ((push && !open_outbox(app, err)) || !open_catalogue(app, err))
        return false;
    if (push)
        return open_push(app, err);
    if (string_starts_with(url, pubsub))
        return open_pubsub(app, url + strlen(pubsub), err);
    if (amqp_url_is(url))
        return open_broker(app, err);
    app->publisher = publisher_none_new(); /* none: */
    return true;
}

static bool open_retention(struct app *app, struct error *err)
{
    int64_t days = app->service.settings.retention_days;

    if (days > 0)
        app->retention = retention_new(app->service.store, app->catalogue, days, err);
    return days == 0 || app->retention != NULL;
}

static bool open_users(struct app *app, struct error *err)
{
    if (!app->service.settings.users)
        return true;
    app->users = accounts_open(&app->service.settings, app, err);
    if (app->users != NULL)
        accounts_require(app);
    return app->users != NULL;
}

static void *worker_new(void *ctx, struct error *err)
{
    return image_worker_new(ctx, err);
}

static void worker_begin(void *state)
{
    image_worker_begin(state);
}

static void worker_free(void *state)
{
    image_worker_free(state);
}

static bool app_open(struct app *app, struct error *err)
{
    app->service.images.output_max = IMAGE_RESULT_MAX;
    if (app->service.settings.remove_background)
        app->background = background_new(app->service.settings.background_model);
    app->pipeline = pipeline_new(app);
    metric_gauge_source(METRIC_PIPELINE_TASKS, tasks, app->pipeline);
    return service_open(&app->service,
                        &(struct worker_pool_options){
                            .state_new = worker_new,
                            .begin = worker_begin,
                            .state_free = worker_free,
                            .scarce_max = (int)app->service.settings.background_concurrency,
                            .ctx = &app->service.images,
                        },
                        err) &&
           open_users(app, err) && open_events(app, err) && open_retention(app, err);
}

static void app_stop(struct service *service, int64_t deadline_ms)
{
    struct app *app = (struct app *)service;

    app->publisher->stop(app->publisher, deadline_ms);
    pipeline_stop(app->pipeline);
}

static void app_done(struct app *app)
{
    metric_gauge_clear(METRIC_OUTBOX_PENDING);
    metric_gauge_clear(METRIC_OUTBOX_DEAD);
    metric_gauge_clear(METRIC_CATALOGUE_PENDING);
    metric_gauge_clear(METRIC_PIPELINE_TASKS);
    pipeline_free(app->pipeline);
    retention_free(app->retention);
    reconciler_free(app->reconciler);
    if (app->publisher != NULL)
        app->publisher->free(app->publisher);
    topic_done(&app->topic);
    catalogue_close(app->catalogue);
    users_close(app->users);
    outbox_close(app->outbox);
    service_done(&app->service);
    background_free(app->background);
}

int main(int argc, char **argv)
{
    struct app app = {
        .service = {.kind = SERVICE_PREPROCESS,
                    .name = "preprocess-service",
                    .openapi = preprocess_openapi},
    };
    struct error err = {0};
    bool images = false;
    int status;

    if (argc > 1 && strcmp(argv[1], "--outbox") == 0)
        return outbox_command(argc, argv);
    if (is_store_command(argc, argv))
        return store_command(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--users") == 0)
        return users_command(argc, argv);
    if (service_begin(&app.service, argc, argv, &status)) {
        images = image_start(&err);
        status = images && app_open(&app, &err) ? service_serve(&app.service, preprocess_routes,
                                                                preprocess_route_count, app_stop)
                                                : service_fail(&err);
    }
    app_done(&app);
    if (images)
        image_stop();
    return status;
}
