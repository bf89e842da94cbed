/* The store that the settings name, with what it talks and proves itself with: the HTTP client, and
 * for gs:// Google's token. */
#ifndef DARKROOM_APP_OPEN_STORE_H
#define DARKROOM_APP_OPEN_STORE_H

#include "app/settings.h"
#include "store/store.h"

struct google_token;

struct storage {
    struct store_options options; /* for more stores of the same kind */
    struct http_client *client;
    struct google_token *token;
};

/* *ret is the caller's (storage_done) in either case; it, the settings and `cut` must outlive the
 * store. NULL: ERROR_CONFIG, … */
struct store *storage_open(const struct settings *settings, const struct clock_cut *cut,
                           struct storage *ret, struct error *err) NODISCARD;
/* After store_free. */
void storage_done(struct storage *storage);

#endif
