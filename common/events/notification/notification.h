/* What POST /pubsub is sent: which objects were created. One entry point for all formats:
 *   Pub/Sub pushes, wrapped (a `message` object) and unwrapped (x-goog-pubsub-* headers), whose
 *     message is ours ({"gcs_path": uri}) or Cloud Storage's (attributes eventType, bucketId,
 *     objectId; the object's resource as data);
 *   CloudEvents 1.0, binary (ce-* headers) and structured, of the types
 *     google.cloud.pubsub.topic.v1.messagePublished and google.cloud.storage.object.v1.finalized;
 *   S3 event notifications, as AWS and MinIO's webhook send them.
 * Pure functions: no I/O. */
#pragma once

#include "events/notification/formats.h"

/* Read a request. ERROR_BAD_REQUEST when it is none of these, malformed, or has more than
 * NOTIFICATION_RECORDS_MAX records; ERROR_UNSUPPORTED_MEDIA for CloudEvents that are batched or not
 * JSON; ERROR_TOO_LARGE over NOTIFICATION_BYTES_MAX, or too many JSON values. On failure *ret is
 * untouched. */
bool notification_read(const struct request *req, struct notification *ret,
                       struct error *err) NODISCARD;

/* Read a broker's message: ours or Cloud Storage's, with its attributes as an object of texts (may
 * be NULL), or an S3 event notification. `from` gives source and id. Errors as above. */
bool notification_read_message(struct bytes body, const json_t *attributes,
                               const struct announced *from, struct notification *ret,
                               struct error *err) NODISCARD;
