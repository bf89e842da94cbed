/* What a process calls others with: one HTTP client, and Google's access token if a setting needs
 * it. */
#ifndef DARKROOM_APP_OUTGOING_H
#define DARKROOM_APP_OUTGOING_H

#include "app/settings.h"
#include "base/clock.h"

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

#endif
