#include "app.h"

EMBED_FILE(classify_openapi, "classify_service/openapi.json");

/* A worker's state is its tensors. */
static void *worker_new(void *ctx, struct error *err)
{
    return model_tensors_new(ctx, err);
}

static void worker_free(void *state)
{
    model_tensors_free(state);
    image_thread_done();
}

static bool app_open(struct app *app, struct error *err)
{
    const struct settings *s = &app->service.settings;

    app->limits = (struct image_limits){
        .max_pixels = s->max_pixels,
        .max_decode_bytes = s->max_decode_bytes,
    };
    app->model = model_open(s->model, err);
    if (app->model == NULL)
        return error_wrap(err, "MODEL");
    if (!service_open(&app->service,
                      &(struct worker_pool_options){
                          .state_new = worker_new,
                          .state_free = worker_free,
                          .ctx = app->model,
                      },
                      err))
        return false;
    app->readable =
        store_set_open(app->service.store, &app->service.storage.options, s->allowed_buckets, err);
    return app->readable != NULL || error_wrap(err, "ALLOWED_BUCKETS");
}

int main(int argc, char **argv)
{
    struct app app = {
        .service = {.kind = SERVICE_CLASSIFY,
                    .name = "classify-service",
                    .openapi = classify_openapi},
    };
    struct error err = {0};
    bool images = false;
    int status;

    if (service_begin(&app.service, argc, argv, &status)) {
        images = image_start(app.service.name, &err);
        status = images && app_open(&app, &err)
                     ? service_serve(&app.service, classify_routes, classify_route_count, NULL)
                     : service_fail(&err);
    }
    store_set_free(app.readable);
    service_done(&app.service);
    model_free(app.model);
    if (images)
        image_stop();
    return status;
}
