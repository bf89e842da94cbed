/* What a process calls others with: one HTTP client, and Google's access token if a setting needs
 * it. */
#pragma once

#include "app/settings.h"
#include "base/clock.h"
#include "events/pubsub/pubsub.h"
#include "store/store.h"

struct outgoing {
    const struct clock_cut *cut; /* ends running calls at shutdown; may be NULL */
    struct http_client *client;
    struct bearer *google; /* NULL: no setting needs it */
};

/* *ret is the caller's (outgoing_done) in either case; the settings and `cut` must outlive it.
 * ERROR_CONFIG, … */
bool outgoing_open(const struct settings *settings, const struct clock_cut *cut,
                   struct outgoing *ret, struct error *err) NODISCARD;
/* After all that makes calls. */
void outgoing_done(struct outgoing *outgoing);

/* ---- the store that the settings name */

/* What the settings say, without what is asked of others. A row with a mistake (NULL) says nothing.
 */
struct store_options storage_options(const struct settings *settings);
/* *ret: the options, for more stores of the same kind. Settings and `outgoing` must outlive the
 * stores. NULL: ERROR_CONFIG, … */
struct store *storage_open(const struct settings *settings, const struct outgoing *outgoing,
                           struct store_options *ret, struct error *err) NODISCARD;

/* ---- a Pub/Sub topic that the settings name */

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
