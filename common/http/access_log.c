#include "http/access_log.h"

#include "base/log.h"
#include "base/metrics.h"

#include <jansson.h>
#include <string.h>

enum { HTTP_REQUEST_MAX = 3072, TRACE_ID_LEN = 32 };

static void count(const struct access *a)
{
    const char *route = *a->req->route != '\0' ? a->req->route : "none";
    char labels[METRIC_LABELS_MAX];

    snprintf(labels, sizeof(labels), "route=\"%s\",code=\"%d\"", route, a->status);
    metric_add(METRIC_HTTP_REQUESTS, labels, 1);
    snprintf(labels, sizeof(labels), "route=\"%s\"", route);
    metric_observe(METRIC_HTTP_DURATION, labels, a->seconds);
}

static void http_request_json(const struct access *a, char out[HTTP_REQUEST_MAX])
{
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:o, s:o, s:s*}", "requestMethod", a->req->method, "requestUrl",
                  a->req->path, "status", a->status, "latency", json_sprintf("%.6fs", a->seconds),
                  "responseSize", json_sprintf("%zu", a->reply_bytes), "userAgent",
                  request_header(a->req, "User-Agent"));

    size_t n = json != NULL ? json_dumpb(json, out, HTTP_REQUEST_MAX - 1, JSON_COMPACT) : 0;
    json_decref(json);
    if (n == 0 || n >= HTTP_REQUEST_MAX)
        n = (size_t)snprintf(out, HTTP_REQUEST_MAX, "{}");
    out[n] = '\0';
}

void access_log(const struct access *a)
{
    char http[HTTP_REQUEST_MAX];
    char trace[TRACE_ID_LEN + 1] = "";
    const enum log_level level = a->light ? LOG_DEBUG : LOG_INFO;

    count(a);
    if (!log_is_written(level))
        return;
    http_request_json(a, http);
    if (*a->req->context.traceparent != '\0')
        memcpy(trace, a->req->context.traceparent + 3, TRACE_ID_LEN);
    struct log_field fields[] = {
        F("method", a->req->method),
        F("path", a->req->path),
        F("status", a->status),
        F("seconds", a->seconds),
        F("request_id", a->req->context.id),
        F("sent", a->sent),
        log_field_raw("httpRequest", http),
        *trace != '\0' ? F("logging.googleapis.com/trace", (const char *)trace) : LOG_END,
        LOG_END,
    };
    log_write(level, "request", fields);
}
