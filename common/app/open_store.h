/* The store that the settings name. */
#ifndef DARKROOM_APP_OPEN_STORE_H
#define DARKROOM_APP_OPEN_STORE_H

#include "app/outgoing.h"
#include "store/store.h"

/* What the settings say, without what is asked of others. A row with a mistake (NULL) says nothing.
 */
struct store_options storage_options(const struct settings *settings);
/* *ret: the options, for more stores of the same kind. Settings and `outgoing` must outlive the
 * stores. NULL: ERROR_CONFIG, … */
struct store *storage_open(const struct settings *settings, const struct outgoing *outgoing,
                           struct store_options *ret, struct error *err) NODISCARD;

#endif
