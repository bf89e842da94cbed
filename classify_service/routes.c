#include "app.h"

const struct route classify_routes[] = {
    SERVICE_ROUTE("/", handle_root),
    SERVICE_ROUTE("/healthz", handle_healthz),
    SERVICE_ROUTE("/readyz", handle_readyz),
    SERVICE_ROUTE("/metrics", handle_metrics),
    SERVICE_ROUTE("/openapi.json", handle_openapi),
    {"POST", "/classify", handle_classify, 0},
    {"POST", "/pubsub", handle_pubsub, 0},
    {"GET", "/results", handle_results, 0},
    {"GET", "/results/{id}", handle_results, 0},
    SERVICE_ROUTE("/v2", handle_inference_server),
    SERVICE_ROUTE("/v2/health/live", handle_inference_live),
    SERVICE_ROUTE("/v2/health/ready", handle_inference_ready),
    SERVICE_ROUTE("/v2/models/{model}", handle_inference_model),
    SERVICE_ROUTE("/v2/models/{model}/ready", handle_inference_model_ready),
    {"POST", "/v2/models/{model}/infer", handle_infer, 0},
    /* INFERENCE_VERSION: there is no other */
    SERVICE_ROUTE("/v2/models/{model}/versions/1", handle_inference_model),
    SERVICE_ROUTE("/v2/models/{model}/versions/1/ready", handle_inference_model_ready),
    {"POST", "/v2/models/{model}/versions/1/infer", handle_infer, 0},
    SERVICE_CALL("/grpc.health.v1.Health/Check", handle_grpc_health),
    {ROUTER_CALL, "/darkroom.v1.Labels/Classify", handle_grpc_classify, 0},
    {ROUTER_CALL, "/image_pipeline.ImageClassifier/Classify", handle_grpc_pipeline_classify, 0},
    SERVICE_CALL("/inference.GRPCInferenceService/ServerLive", handle_grpc_server_live),
    SERVICE_CALL("/inference.GRPCInferenceService/ServerReady", handle_grpc_server_ready),
    SERVICE_CALL("/inference.GRPCInferenceService/ServerMetadata", handle_grpc_server_metadata),
    SERVICE_CALL("/inference.GRPCInferenceService/ModelReady", handle_grpc_model_ready),
    SERVICE_CALL("/inference.GRPCInferenceService/ModelMetadata", handle_grpc_model_metadata),
    {ROUTER_CALL, "/inference.GRPCInferenceService/ModelInfer", handle_grpc_model_infer, 0},
};
const size_t classify_route_count = ARRAY_SIZE(classify_routes);
