/* What preprocess_service holds while it serves. */
#pragma once

#include "app/outgoing.h"
#include "app/service.h"
#include "catalogue/catalogue.h"
#include "events/outbox/outbox.h"
#include "events/publisher.h"

struct background;
struct pipeline;
struct reconciler;
struct retention;
struct users;

struct app {
    struct service service; /* first: see service_of */
    struct outbox *outbox;  /* NULL unless events are pushed */
    struct topic topic;     /* of pubsub:// events */
    struct publisher *publisher;
    struct catalogue *catalogue;   /* NULL: CATALOGUE_URL=none: */
    struct users *users;           /* NULL: USERS=off */
    struct reconciler *reconciler; /* NULL without an outbox */
    struct retention *retention;   /* NULL without RETENTION_DAYS */
    struct background *background; /* NULL: REMOVE_BACKGROUND=off */
    struct pipeline *pipeline;
};

extern const struct route preprocess_routes[];
extern const size_t preprocess_route_count;

struct reply handle_page(const struct app *app, const struct request *req);
struct reply handle_page_file(const struct app *app, const struct request *req);
struct reply handle_preprocess(const struct app *app, const struct request *req);
struct reply handle_transform(const struct app *app, const struct request *req);
struct reply handle_result(const struct app *app, const struct request *req);
struct reply handle_images(const struct app *app, const struct request *req);
struct reply handle_grpc_preprocess(const struct app *app, const struct request *req);
struct reply handle_grpc_upload_stream(const struct app *app, const struct request *req);
struct reply handle_grpc_transform(const struct app *app, const struct request *req);
struct reply handle_grpc_rotate_image(const struct app *app, const struct request *req);
struct reply handle_grpc_mean_filter(const struct app *app, const struct request *req);
struct reply handle_catalogue_list(const struct app *app, const struct request *req);
struct reply handle_catalogue_image(const struct app *app, const struct request *req);
struct reply handle_catalogue_change(const struct app *app, const struct request *req);
struct reply handle_catalogue_delete(const struct app *app, const struct request *req);
struct reply handle_sign_up(const struct app *app, const struct request *req);
struct reply handle_sign_in(const struct app *app, const struct request *req);
struct reply handle_user(const struct app *app, const struct request *req);
struct reply handle_user_change(const struct app *app, const struct request *req);
struct reply handle_user_delete(const struct app *app, const struct request *req);

/* pipeline/ */
struct reply handle_upload(const struct app *app, const struct request *req);
struct reply handle_reduce(const struct app *app, const struct request *req);
struct reply handle_remove(const struct app *app, const struct request *req);
struct reply handle_process(const struct app *app, const struct request *req);
struct reply handle_grpc_upload(const struct app *app, const struct request *req);
struct reply handle_grpc_reduce(const struct app *app, const struct request *req);
struct reply handle_grpc_remove(const struct app *app, const struct request *req);
struct reply handle_grpc_process(const struct app *app, const struct request *req);
struct reply handle_status(const struct app *app, const struct request *req);
struct reply handle_timeline(const struct app *app, const struct request *req);
