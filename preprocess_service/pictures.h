/* The use cases of /v1/images and darkroom.v1.Catalogue: the list, one picture, its change and its
 * end. Who may do what is decided here, for both.
 *
 * Errors of every call: ERROR_NOT_FOUND without a catalogue, and for an id that no picture has or
 * that is another's sealed one; those of the catalogue. */
#pragma once

#include "app.h"
#include "base/context.h"

/* A page, as catalogue_list. `filter` without a viewer; limit 0: CATALOGUE_LIMIT. Where there are
 * users, the owner "me" is the caller. ERROR_BAD_REQUEST: not UTF-8, no cursor, or no limit. */
bool pictures_list(const struct app *app, const struct context *ctx,
                   const struct catalogue_filter *filter, json_t **images, int64_t *next,
                   struct error *err) NODISCARD;
/* *ret is a JSON object, the caller's. */
bool pictures_get(const struct app *app, const struct context *ctx, const char *id, json_t **ret,
                  struct error *err) NODISCARD;
/* The caller's own picture; that of another owner, when the caller is an admin, or else
 * ERROR_FORBIDDEN. *ret: the picture as it is then. */
bool pictures_change(const struct app *app, const struct context *ctx, const char *id,
                     const struct catalogue_change *change, json_t **ret,
                     struct error *err) NODISCARD;
/* The same of a picture that is deleted; an admin deletes also another's sealed one. */
bool pictures_delete(const struct app *app, const struct context *ctx, const char *id,
                     struct error *err) NODISCARD;

/* Whether the caller may read the sealed picture of that id, if there is one: it is in the
 * catalogue as his. ERROR_NOT_FOUND, and catalogue_find's. */
bool may_read_sealed(const struct app *app, const struct context *ctx, const char *id,
                     struct error *err) NODISCARD;
