/* Whose sealed pictures are whose. */
#pragma once

#include "app.h"
#include "base/context.h"

/* Whether the caller may read the sealed picture of that id, if there is one: it is in the
 * catalogue as his. ERROR_NOT_FOUND, and catalogue_find's. */
bool may_read_sealed(const struct app *app, const struct context *ctx, const char *id,
                     struct error *err) NODISCARD;
