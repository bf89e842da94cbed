#include "app.h"
#include "base/xmalloc.h"
#include "classify.h"
#include "source.h"

EMBED_FILE(classify_openapi, "classify_service/openapi.json");

static void worker_free(void *state)
{
    struct classifier *classifier = state;

    if (classifier == NULL)
        return;
    image_worker_free(classifier->images);
    model_tensors_free(classifier->tensors);
    free(classifier);
}

static void *worker_new(void *ctx, struct error *err)
{
    struct app *app = ctx;
    struct classifier *classifier = xcalloc(1, sizeof(*classifier));

    classifier->images = image_worker_new(&app->service.images, err);
    classifier->tensors = classifier->images != NULL ? model_tensors_new(app->model, err) : NULL;
    if (classifier->tensors == NULL) {
        worker_free(classifier);
        return NULL;
    }
    return classifier;
}

static void worker_begin(void *state)
{
    struct classifier *classifier = state;

    image_worker_begin(classifier->images);
}

static bool open_topic(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;

    if (*s->class_topic == '\0')
        return true;
    if (!topic_open(s, s->class_topic, &app->service.outgoing, &app->topic, err))
        return error_wrap(err, "CLASS_TOPIC");
    app->results = pubsub_new(&app->topic.options, err);
    return app->results != NULL;
}

static bool app_open(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;

    app->model = model_open(s->model, MANIFEST_CLASSIFIER, err);
    if (app->model == NULL)
        return error_wrap(err, "MODEL");
    app->service.images.output_max = image_pixels_bytes(&model_manifest(app->model)->input);
    if (!service_open(&app->service,
                      &(struct worker_pool_options){
                          .state_new = worker_new,
                          .begin = worker_begin,
                          .state_free = worker_free,
                          .ctx = app,
                      },
                      err))
        return false;
    app->readable =
        store_set_open(app->service.store, &app->service.storage, s->allowed_buckets, err);
    if (app->readable == NULL)
        return error_wrap(err, "ALLOWED_BUCKETS");
    return open_topic(app, err) && source_start(app, err);
}

static void app_leave(struct service *service)
{
    source_leave((struct app *)service);
}

static void app_stop(struct service *service, int64_t deadline_ms)
{
    struct app *app = (struct app *)service;

    source_stop(app, deadline_ms);
    if (app->results != NULL)
        pubsub_stop(app->results, deadline_ms);
}

int main(int argc, char **argv)
{
    struct app app = {
        .service = {.kind = SERVICE_CLASSIFY,
                    .name = "classify-service",
                    .openapi = classify_openapi,
                    .leave = app_leave,
                    .plain_errors_below = "/v2"},
    };
    struct error err = {0};
    bool images = false;
    int status;

    if (service_begin(&app.service, argc, argv, &status)) {
        images = image_start(&err);
        status = images && app_open(&app, &err)
                     ? service_serve(&app.service, classify_routes, classify_route_count, app_stop)
                     : service_fail(&err);
    }
    source_done(&app);
    pubsub_free(app.results);
    topic_done(&app.topic);
    store_set_free(app.readable);
    service_done(&app.service);
    model_free(app.model);
    if (images)
        image_stop();
    return status;
}
