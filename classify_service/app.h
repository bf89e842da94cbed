/* What classify_service holds while it serves. */
#ifndef DARKROOM_CLASSIFY_APP_H
#define DARKROOM_CLASSIFY_APP_H

#include "image/image.h"
#include "model.h"
#include "service/service.h"

struct app {
    struct service service; /* first: see service_of */
    struct image_limits limits;
    struct model *model;
};

extern const struct route classify_routes[];
extern const size_t classify_route_count;

struct reply handle_classify(const struct app *app, const struct request *req);
struct reply handle_pubsub(const struct app *app, const struct request *req);
struct reply handle_results(const struct app *app, const struct request *req);

#endif
