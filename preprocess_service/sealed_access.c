#include "sealed_access.h"

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
