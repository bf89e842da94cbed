/* Stored results, published to CLASS_TOPIC for whoever wants to know of them: data {"gcs_path",
 * "label", "confidence"}, attributes origin=classify-service, event_id, traceparent.
 *
 * At least once: an event whose result is there already is announced again, since the one who
 * stored it may have been killed before it could. The event_id says that it is the same: lower-case
 * hex SHA-256 of "<gcs_path>\n<source_etag>\n<model_sha256>". */
#ifndef DARKROOM_CLASSIFY_ANNOUNCE_H
#define DARKROOM_CLASSIFY_ANNOUNCE_H

#include "app.h"
#include "base/context.h"

#include <jansson.h>

/* Publish a result as it is stored (result_store, result_find). True at once without CLASS_TOPIC,
 * and for the result of a rejection, which has no label. Every error is a passing one.
 * `traceparent` is the event's; unless it is valid, the request's goes out. */
bool announce_result(const struct app *app, const struct context *ctx, const char *traceparent,
                     const json_t *result, struct error *err) NODISCARD;

#endif
