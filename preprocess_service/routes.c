#include "app.h"

const struct route preprocess_routes[] = {
    SERVICE_ROUTE("/", handle_page),
    SERVICE_ROUTE("/page.{ext}", handle_page_file),
    SERVICE_ROUTE("/healthz", handle_healthz),
    SERVICE_ROUTE("/readyz", handle_readyz),
    SERVICE_ROUTE("/metrics", handle_metrics),
    SERVICE_ROUTE("/openapi.json", handle_openapi),
    {"POST", "/preprocess", handle_preprocess, false},
    {"POST", "/transform", handle_transform, false},
    {"GET", "/results/{id}", handle_result, false},
    {"GET", "/images/{id}", handle_images, false},
    {"GET", "/v1/images", handle_catalogue_list, false},
    {"GET", "/v1/images/{id}", handle_catalogue_image, false},
    {"PATCH", "/v1/images/{id}", handle_catalogue_change, false},
    {"DELETE", "/v1/images/{id}", handle_catalogue_delete, false},
    {"POST", "/upload", handle_upload, false},
    {"POST", "/reduce", handle_reduce, false},
    {"POST", "/remove", handle_remove, false},
    {"POST", "/process", handle_process, false},
    {"GET", "/status/{id}", handle_status, false},
    {"GET", "/timeline.png", handle_timeline, false},
    {"GET", "/timeline.svg", handle_timeline, false},
    SERVICE_CALL("/grpc.health.v1.Health/Check", handle_grpc_health),
    {ROUTER_CALL, "/darkroom.v1.Images/Preprocess", handle_grpc_preprocess, false},
    {ROUTER_CALL, "/darkroom.v1.Images/Transform", handle_grpc_transform, false},
};
const size_t preprocess_route_count = ARRAY_SIZE(preprocess_routes);
