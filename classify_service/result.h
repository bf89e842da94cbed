/* Stored results: "<object key>.json", one for each object, left untouched by duplicates. */
#pragma once

#include "app.h"
#include "base/context.h"
#include "events/notification/notification.h"

#include <jansson.h>

/* What a result is about. */
struct result_subject {
    const struct object *object;
    const char *uri;
    const char *etag; /* of the bytes that were looked at; "" when there were none */
};

/* The stored result of an object if it was made from these bytes by this model: a new reference in
 * *ret, or NULL. False only when storage failed. */
bool result_find(const struct app *app, const struct context *ctx,
                 const struct result_subject *subject, json_t **ret, struct error *err) NODISCARD;

/* Complete `result` (borrowed) with gcs_path, id, source_etag, model_sha256, classified_at and
 * store it, durably. A result of the same bytes and model that is there already stays untouched. */
bool result_store(const struct app *app, const struct context *ctx,
                  const struct result_subject *subject, json_t *result,
                  struct error *err) NODISCARD;

/* Store `<prefix>rejected/<sha256(source, event id)>.json`, at most 4 KiB, unless it is there. */
bool result_store_rejection(const struct context *ctx, struct store *store,
                            const struct announcement *event, const char *detail,
                            struct error *err) NODISCARD;
