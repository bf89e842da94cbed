/* What classify_service holds while it serves. */
#pragma once

#include "app/outgoing.h"
#include "app/service.h"
#include "image/image.h"
#include "model/model.h"
#include "store/allowed_stores.h"

struct app {
    struct service service; /* first: see service_of */
    struct model *model;
    struct store_set *readable;         /* ALLOWED_BUCKETS */
    struct topic topic;                 /* CLASS_TOPIC */
    struct pubsub *results;             /* NULL without it */
    struct amqp_consumer *source;       /* NULL without SOURCE_URL */
    struct amqp_consumer *older_source; /* NULL without AMQP_OLD_QUEUE */
};

/* Where a URI leads: into a store that may be read. */
struct object {
    struct store *store; /* borrowed */
    char key[STORE_KEY_MAX + 1];
};

extern const struct route classify_routes[];
extern const size_t classify_route_count;

struct reply handle_classify(const struct app *app, const struct request *req);
struct reply handle_pubsub(const struct app *app, const struct request *req);
struct reply handle_results(const struct app *app, const struct request *req);
struct reply handle_inference_server(const struct app *app, const struct request *req);
struct reply handle_inference_live(const struct app *app, const struct request *req);
struct reply handle_inference_ready(const struct app *app, const struct request *req);
struct reply handle_inference_model(const struct app *app, const struct request *req);
struct reply handle_inference_model_ready(const struct app *app, const struct request *req);
struct reply handle_infer(const struct app *app, const struct request *req);
struct reply handle_grpc_classify(const struct app *app, const struct request *req);
struct reply handle_grpc_pipeline_classify(const struct app *app, const struct request *req);
struct reply handle_grpc_server_live(const struct app *app, const struct request *req);
struct reply handle_grpc_server_ready(const struct app *app, const struct request *req);
struct reply handle_grpc_server_metadata(const struct app *app, const struct request *req);
struct reply handle_grpc_model_ready(const struct app *app, const struct request *req);
struct reply handle_grpc_model_metadata(const struct app *app, const struct request *req);
struct reply handle_grpc_model_infer(const struct app *app, const struct request *req);
