/* Metrics in the Prometheus text format (version 0.0.4). Label values come from fixed sets only:
 * a family has at most METRIC_SERIES_MAX series, further ones are dropped.
 * Families are static tables below; thread-safe. */
#pragma once

#include "base/bytes.h"

#define METRIC_TABLE(X)                                                                            \
    X(METRIC_HTTP_REQUESTS, "http_requests_total", COUNTER, "Requests by route and status")        \
    X(METRIC_HTTP_DURATION, "http_request_duration_seconds", HISTOGRAM,                            \
      "From the end of the headers to the reply, by route")                                        \
    X(METRIC_STAGE_DURATION, "stage_duration_seconds", HISTOGRAM,                                  \
      "Stages of the work: receive, queue, decode, transform, encode, store, publish, fetch, "     \
      "infer")                                                                                     \
    X(METRIC_WORKER_QUEUE_DEPTH, "worker_queue_depth", GAUGE, "Jobs waiting for a worker")         \
    X(METRIC_WORKER_BUSY, "worker_busy", GAUGE, "Workers at work")                                 \
    X(METRIC_BODY_BYTES, "body_bytes_in_flight", GAUGE, "Bytes of bodies buffered")                \
    X(METRIC_CONNECTIONS, "connections", GAUGE, "Open client connections")                         \
    X(METRIC_OUTBOX_PENDING, "outbox_pending", GAUGE, "Events not yet delivered")                  \
    X(METRIC_OUTBOX_DEAD, "outbox_dead", GAUGE, "Dead letters")                                    \
    X(METRIC_SANDBOX_LOSSES, "sandbox_losses_total", COUNTER, "Sandbox processes lost, by reason") \
    X(METRIC_EVENTS, "events_total", COUNTER, "Events by outcome")                                 \
    X(METRIC_BROKER, "broker_messages_total", COUNTER,                                             \
      "RabbitMQ, by outcome: connected; out: confirmed, refused, returned, answered; in: "         \
      "consumed, redelivered, dead_lettered, given_back")                                          \
    X(METRIC_BROKER_QUEUE, "broker_queue_length", GAUGE, "Messages that wait in darkroom.images")  \
    X(METRIC_BROKER_DEAD, "broker_dead_letters", GAUGE, "Messages in darkroom.dead")               \
    X(METRIC_PIPELINE_TASKS, "pipeline_tasks", GAUGE, "Tasks of the pipeline that have not ended") \
    X(METRIC_CATALOGUE_PENDING, "catalogue_pending", GAUGE,                                        \
      "Rows of the catalogue that the outbox keeps until they are on its disk")                    \
    X(METRIC_CATALOGUE_FAILURES, "catalogue_failures_total", COUNTER,                              \
      "Failures to write rows, views or labels, or to finish a deletion; each is tried again")     \
    X(METRIC_SEALED, "sealed_objects_total", COUNTER,                                              \
      "Sealed objects by outcome: sealed, opened, damaged, no_key")                                \
    X(METRIC_SIGN_INS, "sign_ins_total", COUNTER, "Attempts to sign in, by outcome")               \
    X(METRIC_EXPIRED, "objects_expired_total", COUNTER,                                            \
      "Objects and results deleted by RETENTION_DAYS")

enum metric {
#define X(symbol, name, type, help) symbol,
    METRIC_TABLE(X) METRIC_COUNT
#undef X
};

enum { METRIC_SERIES_MAX = 256, METRIC_LABELS_MAX = 96 };

/* `labels` as they stand between the braces: `stage="queue"`; "" for none. */
void metric_add(enum metric metric, const char *labels, double amount);
void metric_observe(enum metric metric, const char *labels, double seconds);

/* A gauge read when rendered; `read` must be quick and thread-safe. Set before threads start. */
void metric_gauge_source(enum metric metric, double (*read)(void *ctx), void *ctx);
/* Forget a source, before its context goes away. */
void metric_gauge_clear(enum metric metric);

bool metrics_render(struct buffer *out, struct error *err) NODISCARD;
