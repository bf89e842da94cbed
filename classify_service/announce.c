#include "announce.h"

#include "base/metrics.h"
#include "base/strings.h"

static struct bytes member(const json_t *result, const char *name)
{
    const char *value = json_string_value(json_object_get(result, name));

    return bytes_from_str(value != NULL ? value : "");
}

static bool event_id_of(const json_t *result, char out[SHA256_HEX_LEN + 1], struct error *err)
{
    const struct bytes newline = bytes_of("\n", 1);
    const struct bytes parts[] = {member(result, "gcs_path"), newline,
                                  member(result, "source_etag"), newline,
                                  member(result, "model_sha256")};

    return string_sha256_hex(parts, ARRAY_SIZE(parts), out, err);
}

static char *data_of(const json_t *result)
{
    json_t *data = json_pack("{s:O?, s:O?, s:O?}", "gcs_path", json_object_get(result, "gcs_path"),
                             "label", json_object_get(result, "label"), "confidence",
                             json_object_get(result, "confidence"));
    char *text = data != NULL ? json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

    json_decref(data);
    return text;
}

static bool publish(const struct app *app, const struct context *ctx,
                    const struct pubsub_message *message, struct error *err)
{
    char message_id[MESSAGE_ID_MAX];
    double started = clock_monotonic_s();
    bool ok = pubsub_publish(app->results, message, ctx->deadline_ms, message_id, err);

    stage_took(ctx->stages, STAGE_PUBLISH, clock_monotonic_s() - started);
    if (ok)
        metric_add(METRIC_EVENTS, "outcome=\"published\"", 1);
    return ok;
}

bool announce_result(const struct app *app, const struct context *ctx, const char *traceparent,
                     const json_t *result, struct error *err)
{
    char event_id[SHA256_HEX_LEN + 1];

    if (app->results == NULL || json_object_get(result, "label") == NULL)
        return true;
    CLEANUP_FREE char *data = data_of(result);
    if (data == NULL)
        return error_oom(err);
    if (!event_id_of(result, event_id, err)) {
        err->code = ERROR_UNAVAILABLE;
        return error_wrap(err, "CLASS_TOPIC");
    }
    const struct pubsub_message message = {
        .data = bytes_from_str(data),
        .attributes = {{"origin", "classify-service"},
                       {"event_id", event_id},
                       {"traceparent",
                        traceparent_is_valid(traceparent) ? traceparent : ctx->traceparent}},
    };
    return publish(app, ctx, &message, err) || error_wrap(err, "CLASS_TOPIC");
}
