/* A Pub/Sub topic that the settings name, with what it is talked to and proven to with: the HTTP
 * client and Google's token. */
#ifndef DARKROOM_APP_OPEN_PUBLISHER_H
#define DARKROOM_APP_OPEN_PUBLISHER_H

#include "app/settings.h"
#include "events/pubsub/pubsub.h"

struct google_token;

struct topic {
    struct pubsub_options options; /* for pubsub_new, pubsub_publisher_new */
    char *name;                    /* "projects/P/topics/T" */
    struct http_client *client;
    struct google_token *token;
};

/* `name` is "T" or "projects/P/topics/T"; the project of the first is GOOGLE_CLOUD_PROJECT, or what
 * the metadata server says (asked here, for at most 5 s). *ret is the caller's (topic_done) in
 * either case; it, the settings and `cut` must outlive what is made from the options.
 * ERROR_CONFIG, … */
bool topic_open(const struct settings *settings, const char *name, const struct clock_cut *cut,
                struct topic *ret, struct error *err) NODISCARD;
/* After pubsub_free. */
void topic_done(struct topic *topic);

#endif
