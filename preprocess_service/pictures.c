#include "pictures.h"

#include "base/strings.h"

#include <string.h>

static bool has_catalogue(const struct app *app, struct error *err)
{
    return app->catalogue != NULL ||
           error_set(err, ERROR_NOT_FOUND, "there is no catalogue: CATALOGUE_URL is none:");
}

/* ---- the list ---- */

static bool check_text(const char *name, const char *value, struct error *err)
{
    return value == NULL || string_is_utf8(bytes_from_str(value)) ||
           error_set(err, ERROR_BAD_REQUEST, "%s: not UTF-8", name);
}

static bool check_filter(const struct catalogue_filter *filter, struct error *err)
{
    if (!check_text("label", filter->label, err) || !check_text("tag", filter->tag, err) ||
        !check_text("owner", filter->owner, err))
        return false;
    if (filter->before < 0)
        return error_set(err, ERROR_BAD_REQUEST,
                         "before: must be the value of next in an earlier page");
    return (filter->limit >= 0 && filter->limit <= CATALOGUE_LIMIT_MAX) ||
           error_set(err, ERROR_BAD_REQUEST, "limit: must be a number from 1 to %d",
                     CATALOGUE_LIMIT_MAX);
}

bool pictures_list(const struct app *app, const struct context *ctx,
                   const struct catalogue_filter *filter, json_t **images, int64_t *next,
                   struct error *err)
{
    struct catalogue_filter asked = *filter;

    if (!has_catalogue(app, err) || !check_filter(filter, err))
        return false;
    asked.viewer = ctx->who;
    if (asked.limit == 0)
        asked.limit = CATALOGUE_LIMIT;
    if (app->users != NULL && asked.owner != NULL && strcmp(asked.owner, "me") == 0)
        asked.owner = ctx->who;
    return catalogue_list(app->catalogue, &asked, images, next, ctx->deadline_ms, err);
}

/* ---- one picture ---- */

/* The id alone: a name with an extension is /images/'s. */
static bool check_id(const struct app *app, const char *id, struct error *err)
{
    return has_catalogue(app, err) &&
           (string_is_sha256_hex(id) || error_set(err, ERROR_NOT_FOUND, "no such image"));
}

bool pictures_get(const struct app *app, const struct context *ctx, const char *id, json_t **ret,
                  struct error *err)
{
    return check_id(app, id, err) &&
           catalogue_find(app->catalogue, id, ctx->who, ret, ctx->deadline_ms, err);
}

/* What is done to the picture of an owner; `change` NULL: it is deleted. */
static bool apply(const struct app *app, const struct context *ctx, const char *id,
                  const char *owner, const struct catalogue_change *change, struct error *err)
{
    return change != NULL
               ? catalogue_change(app->catalogue, id, owner, change, ctx->deadline_ms, err)
               : catalogue_delete(app->catalogue, id, owner, ctx->deadline_ms, err);
}

/* To the caller's own; to that of another owner, when the caller is an admin. */
static bool apply_as_owner(const struct app *app, const struct context *ctx, const char *id,
                           const struct catalogue_change *change, struct error *err)
{
    /* an admin deletes, but does not change, what only its owner sees */
    const char *viewer = ctx->admin && change == NULL ? NULL : ctx->who;
    json_t *image = NULL;

    if (!check_id(app, id, err))
        return false;
    if (apply(app, ctx, id, ctx->who, change, err))
        return true;
    if (err->code != ERROR_NOT_FOUND || app->users == NULL ||
        !catalogue_find(app->catalogue, id, viewer, &image, ctx->deadline_ms, err))
        return false;
    const char *owner = json_string_value(json_object_get(image, "owner"));
    bool ok = ctx->admin ? apply(app, ctx, id, owner != NULL ? owner : "", change, err)
                         : error_set(err, ERROR_FORBIDDEN, "this picture is somebody else's");
    json_decref(image);
    return ok;
}

bool pictures_change(const struct app *app, const struct context *ctx, const char *id,
                     const struct catalogue_change *change, json_t **ret, struct error *err)
{
    return apply_as_owner(app, ctx, id, change, err) && pictures_get(app, ctx, id, ret, err);
}

bool pictures_delete(const struct app *app, const struct context *ctx, const char *id,
                     struct error *err)
{
    return apply_as_owner(app, ctx, id, NULL, err);
}

/* ---- its bytes, which are sealed ---- */

bool may_read_sealed(const struct app *app, const struct context *ctx, const char *id,
                     struct error *err)
{
    json_t *image = NULL;

    /* without a user not even what a rebuild made nobody's */
    if (*app->service.settings.seal_keys_file == '\0' || (app->users != NULL && *ctx->who == '\0'))
        return error_set(err, ERROR_NOT_FOUND, "no such image");
    if (app->catalogue == NULL)
        return true; /* USERS=off: nobody is known from anybody */
    bool ok = catalogue_find(app->catalogue, id, ctx->who, &image, ctx->deadline_ms, err);
    json_decref(image);
    return ok;
}
