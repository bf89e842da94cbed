/* Stored results: "<object key>.json", one for each object, left untouched by duplicates. */
#ifndef DARKROOM_CLASSIFY_RESULT_H
#define DARKROOM_CLASSIFY_RESULT_H

#include "app.h"

#include <jansson.h>

enum { RESULT_BYTES_MAX = 1024 * 1024 };

/* What a result is about. */
struct result_subject {
    const struct object *object;
    const char *uri;
    const char *etag; /* of the bytes that were looked at; "" when there were none */
};

/* The stored result of an object if it was made from these bytes by this model: a new reference in
 * *ret, or NULL. False only when storage failed. */
bool result_find(const struct app *app, const struct result_subject *subject, int64_t deadline_ms,
                 json_t **ret, struct error *err) NODISCARD;

/* Complete `result` (borrowed) with gcs_path, id, source_etag, model_sha256, classified_at and
 * store it, durably. A result of the same bytes and model that is there already stays untouched. */
bool result_store(const struct app *app, const struct result_subject *subject, json_t *result,
                  int64_t deadline_ms, struct error *err) NODISCARD;

/* Store `<prefix>rejected/<sha256(source, event id)>.json`, at most 4 KiB, unless it is there. */
bool result_store_rejection(struct store *store, const char *source, const char *event_id,
                            const char *uri, const char *detail, int64_t deadline_ms,
                            struct error *err) NODISCARD;

#endif
