#include "app/stored_result.h"

#include "objects/object_name.h"
#include "objects/result_key.h"

#include <string.h>

static struct reply not_found(void)
{
    struct error err;

    error_set(&err, ERROR_NOT_FOUND, "no such object");
    return reply_error(&err);
}

static struct reply pending(void)
{
    struct reply reply = reply_json(202, json_pack("{s:s}", "status", "pending"));

    reply_add_header(&reply, "Retry-After", "1");
    return reply;
}

struct reply reply_stored_result(struct store *store, const struct context *ctx, const char *key,
                                 bool sealed)
{
    struct buffer data = BUFFER_MAX(RESULT_BYTES_MAX);
    struct error err = {0};
    char json_key[STORE_KEY_MAX + 1];

    if (!sealed && string_starts_with(key + strlen(store_prefix(store)), STORE_SEALED))
        return not_found();
    if (!result_key(key, json_key, sizeof(json_key), &err))
        return reply_error(&err);
    if (store_get(store,
                  &(struct store_get){.key = json_key,
                                      .max_bytes = RESULT_BYTES_MAX,
                                      .deadline_ms = ctx->deadline_ms},
                  &data, NULL, &err))
        return reply_buffer(200, "application/json", &data);
    buffer_done(&data);
    if (err.code != ERROR_NOT_FOUND)
        return reply_error(&err);
    if (store_head(store, key, ctx->deadline_ms, NULL, &err))
        return pending();
    return err.code == ERROR_NOT_FOUND ? not_found() : reply_error(&err);
}

struct reply reply_stored_result_of(struct store *store, const struct context *ctx,
                                    const char *name, bool sealed)
{
    struct object_name asked, object;
    char key[STORE_KEY_MAX + 1];
    struct error err = {0};

    if (!object_name_parse(name, &asked))
        return not_found();
    for (size_t i = 0; object_name_candidate(&asked, i, &object); i++) {
        if (!object_key(store_prefix(store), &object, key, sizeof(key), &err))
            return reply_error(&err);
        struct reply reply = reply_stored_result(store, ctx, key, sealed);
        if (reply.status != 404)
            return reply;
        reply_done(&reply);
    }
    return not_found();
}
