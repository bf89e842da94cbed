/* A Pub/Sub topic that the settings name. */
#ifndef DARKROOM_APP_OPEN_PUBLISHER_H
#define DARKROOM_APP_OPEN_PUBLISHER_H

#include "app/outgoing.h"
#include "events/pubsub/pubsub.h"

struct topic {
    struct pubsub_options options; /* for pubsub_new, pubsub_publisher_new */
    char *name;                    /* "projects/P/topics/T" */
};

/* `name` is "T" or "projects/P/topics/T"; the project of the first is GOOGLE_CLOUD_PROJECT, or what
 * the metadata server says (asked here, for at most 5 s). *ret is the caller's (topic_done) in
 * either case; it, the settings and `outgoing` must outlive what is made from the options.
 * ERROR_CONFIG, … */
bool topic_open(const struct settings *settings, const char *name, const struct outgoing *outgoing,
                struct topic *ret, struct error *err) NODISCARD;
/* After pubsub_free. */
void topic_done(struct topic *topic);

#endif
